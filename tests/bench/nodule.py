"""Seconds from files to findings for a chest of 300 slices, beside the bare forward passes over the same windows.

`python -m tests.bench.nodule [--rounds N] [--slices N] [--folder DIR]`. The bound is 1.5 times the passes, and 40 s on
two cores. Prints one JSON object: medians, the split by stage, the ratio of the same round, and the peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydicom import dcmread
from pydicom.uid import generate_uid
from torch import nn

from pipelines.catalogue import PipelineSettings
from pipelines.nodule.pipeline import PIPELINE, NoduleReader

HEIGHT_MM = 300.0
THINNEST_MM = 0.5
"""Thinner slices than made chests have are copies of these, moved."""


@contextmanager
def watched(reader: NoduleReader) -> Iterator[list[tuple[nn.Module, torch.Tensor]]]:
    """What goes into each network of the reader while this lasts."""
    seen: list[tuple[nn.Module, torch.Tensor]] = []
    networks = (reader.detector.candidates, reader.detector.reduction, reader.segmenter.network)
    hooks = [
        network.register_forward_pre_hook(lambda module, given: seen.append((module, given[0].clone())))
        for network in networks
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def forward_seconds(reader: NoduleReader, seen: Sequence[tuple[nn.Module, torch.Tensor]]) -> float:
    """The same inputs through the same networks, and nothing else."""
    began = time.perf_counter()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=reader.detector.bf16):
        for network, given in seen:
            network(given)
    return time.perf_counter() - began


def measure(files: Sequence[Path], rounds: int) -> dict[str, Any]:
    """Read the series twice, the second time keeping what the networks see, then `rounds` times."""
    reader = PIPELINE.open(PipelineSettings(device="cpu"))
    reading = reader.read(files)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    with watched(reader) as seen:
        reader.read(files)
    whole, passes, stages = [], [], []
    for _ in range(rounds):
        began = time.perf_counter()
        outcome = reader.read(files).outcome
        whole.append(time.perf_counter() - began)
        passes.append(forward_seconds(reader, seen))
        stages.append(outcome.timings)
    return {
        "slices": len(files),
        "status": reading.outcome.status,
        "findings": len(reading.outcome.findings),
        "threads": torch.get_num_threads(),
        "windows": len(seen),
        "read_s": round(statistics.median(whole), 2),
        "forward_s": round(statistics.median(passes), 2),
        "ratio": round(statistics.median(a / b for a, b in zip(whole, passes, strict=True)), 3),
        "stages_s": {name: round(statistics.median(one[name] for one in stages), 2) for name in stages[0]},
        "peak_memory_mb": peak,
    }


def thinned(files: Sequence[Path], count: int) -> Sequence[Path]:
    """So many of the files of a series; where it has fewer, its slices are cut into copies that lie closer."""
    if count <= len(files):
        return files[:count]
    made = []
    datasets = [dcmread(path) for path in files]
    low, high = (float(dataset.ImagePositionPatient[2]) for dataset in (datasets[0], datasets[-1]))
    for number in range(count):
        dataset = datasets[number * len(files) // count]
        dataset.ImagePositionPatient[2] = low + (high - low) * number / (count - 1)
        dataset.SliceThickness = abs(high - low) / (count - 1)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
        dataset.InstanceNumber = number + 1
        made.append(files[0].parent / f"thin{number:05d}.dcm")
        dataset.save_as(made[-1])
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slices", type=int, default=300, help="over about 300 mm, 512 x 512 each")
    parser.add_argument("--folder", type=Path, help="a series to read instead of a made one")
    options = parser.parse_args()
    if options.folder:
        files = sorted(path for path in options.folder.iterdir() if path.is_file())
        print(json.dumps(measure(files, options.rounds), indent=1))
        return
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own, so that its memory does not count.
        slice_mm = str(max(THINNEST_MM, HEIGHT_MM / options.slices))
        command = [
            "-m",
            "dicom_node.cli.main",
            "phantom",
            "chest",
            "--out",
            folder,
            "--seed",
            "3",
            "--slice-mm",
            slice_mm,
        ]
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        files = thinned(sorted(Path(folder).glob("*.dcm")), options.slices)
        print(json.dumps(measure(files, options.rounds), indent=1))


if __name__ == "__main__":
    main()
