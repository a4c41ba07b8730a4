"""Files to a volume, beside the loop that one would write: `dcmread` and `pixel_array` of each file, sorted, stacked.

    python -m tests.bench.load [--slices 300] [--compressed 100] [--rounds 5] [--cores N]

Each row is the median of the rounds, in which both take turns; files are in the system's cache, decoders are warm.
Compare rows only within one run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from pipelines.volume import load
from tests.unit.pipelines.series import axial_plane, ct_dataset

SYNTAXES = {"uncompressed": "", "JPEG-LS": JPEGLSLossless, "JPEG 2000": JPEG2000Lossless}
DIFFERENT = 8


def write_series(folder: Path, count: int, syntax: str) -> list[Path]:
    """Slices of 512 x 512 with the noise of a standard kernel and as many elements in the header as scanners write."""
    generator = np.random.default_rng(1)
    different = []
    for _ in range(DIFFERENT):
        dataset = ct_dataset(axial_plane(0.0), generator.normal(1064, 18, (512, 512)).astype(np.uint16))
        for number in range(60):
            dataset.add_new(0x00191000 + number, "LO", f"value {number}")
        if syntax:
            dataset.compress(syntax, generate_instance_uid=False)
        different.append(dataset)
    paths = [folder / f"{k:04}.dcm" for k in range(count)]
    for k, path in enumerate(paths):
        dataset = different[k % DIFFERENT]
        dataset.SOPInstanceUID = f"2.25.{k + 1}"
        dataset.ImagePositionPatient = [-180.0, -180.0, float(k)]
        dataset.SliceThickness = 1.0
        dataset.save_as(path, enforce_file_format=True)
    return paths


def naive(paths: Sequence[Path]) -> NDArray[np.integer]:
    datasets = [dcmread(path) for path in paths]
    datasets.sort(key=lambda dataset: float(dataset.ImagePositionPatient[2]))
    return np.stack([dataset.pixel_array for dataset in datasets])


def seconds(task: Callable[[], object]) -> float:
    began = time.perf_counter()
    task()
    return time.perf_counter() - began


def compare(paths: Sequence[Path], rounds: int) -> tuple[float, float]:
    """Milliseconds of the loop, and of `load`."""
    load(paths)
    taken = [(seconds(lambda: naive(paths)), seconds(lambda: load(paths))) for _ in range(rounds)]
    pydicom, ours = (statistics.median(column) * 1000 for column in zip(*taken, strict=True))
    return pydicom, ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=300, help="of the uncompressed series")
    parser.add_argument("--compressed", type=int, default=100, help="slices of each compressed series")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, help="that may be used; all there are by default")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.cores or len(os.sched_getaffinity(0)))
    print(f"{'':14}{'slices':>8}{'pydicom ms':>12}{'load ms':>10}{'ratio':>8}")
    for name, syntax in SYNTAXES.items():
        with tempfile.TemporaryDirectory() as folder:
            paths = write_series(Path(folder), options.compressed if syntax else options.slices, syntax)
            pydicom, ours = compare(paths, options.rounds)
        print(f"{name:14}{len(paths):8}{pydicom:12.0f}{ours:10.0f}{ours / pydicom:8.2f}")


if __name__ == "__main__":
    main()
