"""Frames into one mapped array: the same values whichever process decodes them, and no more memory than they take."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from pipelines import decoders, decoding
from pipelines.decoders import DecodersDiedError, Place, decode_frame, decode_on_cores
from pipelines.decoding import decode, decode_each
from pipelines.instance import read_frames
from pipelines.pixels import Pixels, StoredPixels, hounsfield
from pipelines.reasons import Reason, Refusal
from pipelines.volume import load
from tests.unit.pipelines.series import axial_plane, ct_dataset, enhanced_ct, write

ENDS_WITHIN_S = 30.0


def compressed_stack(folder: Path, syntax: str, count: int = 6) -> list[Path]:
    """Slices of noise, each another."""
    generator = np.random.default_rng(0)
    datasets = []
    for k in range(count):
        dataset = ct_dataset(axial_plane(5.0 * k), generator.integers(0, 4095, (64, 80)).astype(np.uint16))
        dataset.compress(syntax, generate_instance_uid=False)
        datasets.append(dataset)
    return write(folder, datasets)


def frames_of(paths: Sequence[Path]) -> list[Pixels]:
    return [frame.pixels for path in paths for frame in read_frames(path)]


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Series of these tests are large enough for processes, and there are two cores."""
    monkeypatch.setattr(decoding, "FEWEST_PIXELS_FOR_PROCESSES", 1)
    monkeypatch.setattr(decoding, "usable_cores", lambda: 2)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless])
@pytest.mark.usefixtures("shared")
def test_processes_give_the_values_that_one_gives(tmp_path: Path, syntax: str) -> None:
    frames = frames_of(compressed_stack(tmp_path, syntax))
    alone, _ = decode(frames, cores=1)
    together, failures = decode(frames, cores=2)
    assert not failures
    assert together.dtype == np.int16
    assert np.array_equal(alone, together)
    assert len({hu.tobytes() for hu in together}) == len(frames)


def test_every_odd_file_is_the_same_in_a_process(triage_data: Path, tmp_path: Path) -> None:
    frames = []
    for path in sorted((triage_data / "odd").iterdir()):
        try:
            frames += [frame.pixels for frame in read_frames(path)]
        except Refusal:
            continue
    size = max(frame.shape[0] * frame.shape[1] for frame in frames) * 4
    with (tmp_path / "alone").open("w+b") as alone, (tmp_path / "together").open("w+b") as together:
        serial = [decode_frame(frame, Place(alone.fileno(), k * size, "f4")) for k, frame in enumerate(frames)]
        places = [Place(together.fileno(), k * size, "f4") for k in range(len(frames))]
        assert decode_on_cores(list(zip(frames, places, strict=True)), 2) == serial
        assert alone.read() == together.read()
    assert serial.count(None) >= 8


@pytest.mark.usefixtures("shared")
def test_frames_of_one_compressed_file_are_told_apart(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 4095, (5, 64, 80)).astype(np.uint16)
    dataset = enhanced_ct([axial_plane(5.0 * k) for k in range(5)], stored)
    dataset.compress(JPEGLSLossless, generate_instance_uid=False)
    series = load(write(tmp_path, [dataset]))
    assert np.array_equal(series.volume.hu, stored.astype(np.int32) - 1024)


@pytest.mark.usefixtures("shared")
def test_a_damaged_compressed_slice_is_left_out_and_the_others_move_up(tmp_path: Path) -> None:
    paths = compressed_stack(tmp_path, JPEGLSLossless, 10)
    whole = load(paths).volume
    spoilt = bytearray(paths[4].read_bytes())
    at = spoilt.index(b"\xff\xda")  # start of scan
    spoilt[at + 10 : at + 2000] = b"\xff" * 1990
    paths[4].write_bytes(spoilt)
    series = load(paths)
    assert "series.partly_unreadable" in {reason.code for reason in series.warnings}
    assert series.volume.instance_uid == whole.instance_uid[:4] + whole.instance_uid[5:]
    assert np.array_equal(series.volume.hu, np.delete(whole.hu, 4, axis=0))


def test_a_cut_compressed_file_is_truncated_wherever_it_is_cut(tmp_path: Path) -> None:
    (path,) = compressed_stack(tmp_path, RLELossless, 1)
    whole = path.read_bytes()
    for end in range(whole.index(b"\xe0\x7f\x10\x00") + 12, len(whole) - 8, 97):
        path.write_bytes(whole[:end])
        with pytest.raises(Refusal) as caught:
            read_frames(path)
        assert caught.value.reason.code == "input.truncated"


@pytest.mark.usefixtures("shared")
def test_images_of_different_size_and_type_are_decoded_to_their_stored_values(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    stored = [
        generator.integers(0, 255, (31, 17)).astype(np.uint16),
        generator.integers(-500, 500, (8, 40)).astype(np.int16),
        generator.integers(0, 4095, (50, 60)).astype(np.uint16),
    ]
    datasets = [ct_dataset(axial_plane(5.0 * k), values) for k, values in enumerate(stored)]
    datasets[2].compress(JPEGLSLossless, generate_instance_uid=False)
    paths = write(tmp_path, datasets)
    cut = paths[0].read_bytes()
    paths[0].write_bytes(cut[:-100])
    images = [
        StoredPixels(**{f.name: getattr(frame, f.name) for f in fields(StoredPixels)}) for frame in frames_of(paths)
    ]
    values, failures = decode_each(images)
    assert {k: reason.code for k, reason in failures.items()} == {0: "input.truncated"}
    assert all(np.array_equal(values[k], stored[k]) and values[k].dtype == stored[k].dtype for k in (1, 2))


class _Deadly:
    """Ends the process that receives it."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os._exit, (1,))


def test_a_frame_that_brings_down_its_decoder_twice_is_unreadable(tmp_path: Path) -> None:
    first, deadly, last = frames_of(compressed_stack(tmp_path, RLELossless, 3))
    deadly = replace(deadly, shape=_Deadly())  # type: ignore[arg-type]
    with tempfile.TemporaryFile() as file:
        size = 64 * 80 * 2
        jobs = [(frame, Place(file.fileno(), k * size, "i2")) for k, frame in enumerate((first, deadly, last))]
        answers = decode_on_cores(jobs, 2)
        assert answers == [None, Reason("input.pixel_data_unreadable", {"detail": "its decoder died"}), None]
        values = np.frombuffer(file.read(), np.int16).reshape(3, 64, 80)
    assert np.array_equal(values[[0, 2]], [hounsfield(first), hounsfield(last)])


def test_decoders_that_die_one_after_another_are_no_fault_of_the_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "MOST_DEATHS", 1)
    (frame,) = frames_of(compressed_stack(tmp_path, RLELossless, 1))
    jobs = [(replace(frame, shape=_Deadly()), Place(0, 0, "i2"))]  # type: ignore[arg-type]
    with pytest.raises(DecodersDiedError):
        decode_on_cores(jobs, 1)


def _decoder_processes(parent: psutil.Process | None = None) -> list[psutil.Process]:
    children = (parent or psutil.Process()).children()
    return [child for child in children if "pipelines.decoders" in " ".join(child.cmdline())]


class _HangsOnce:
    """Becomes `value` in the process that receives it, but the first one to do so leaves a mark and hangs."""

    def __init__(self, value: object, mark: Path) -> None:
        self._value, self._mark = value, str(mark)

    def __reduce__(self) -> tuple[object, ...]:
        return _hang_once, (self._value, self._mark)


def _hang_once(value: object, mark: str) -> object:
    if not Path(mark).exists():
        Path(mark).touch()
        time.sleep(1e6)
    return value


def test_a_decoder_killed_over_a_frame_is_replaced_and_the_frame_tried_again(tmp_path: Path) -> None:
    (frame,) = frames_of(compressed_stack(tmp_path, JPEGLSLossless, 1))
    expected = hounsfield(frame)
    mark = tmp_path / "mark"

    def kill() -> None:
        while not mark.exists():
            time.sleep(0.01)
        for process in _decoder_processes():
            process.kill()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    hanging = replace(frame, number=_HangsOnce(1, mark))  # type: ignore[arg-type]
    with tempfile.TemporaryFile() as file:
        assert decode_on_cores([(hanging, Place(file.fileno(), 0, "i2"))], 1) == [None]
        assert np.array_equal(np.frombuffer(file.read(), np.int16).reshape(expected.shape), expected)
    thread.join()


def _read_as_a_worker_does(paths: list[Path], connection: Connection) -> None:
    decoding.FEWEST_PIXELS_FOR_PROCESSES = 1
    decode(frames_of(paths), cores=2)
    connection.send([process.pid for process in _decoder_processes()])
    signal.pause()


def test_a_daemon_has_decoders_without_torch_that_end_with_it(tmp_path: Path) -> None:
    ours, theirs = multiprocessing.Pipe()
    arguments = (compressed_stack(tmp_path, RLELossless), theirs)
    context = multiprocessing.get_context("spawn")
    daemon = context.Process(target=_read_as_a_worker_does, args=arguments, daemon=True)
    daemon.start()
    assert ours.poll(ENDS_WITHIN_S)
    processes = [psutil.Process(pid) for pid in ours.recv()]
    assert len(processes) == 2
    assert not any("torch" in mapping.path for process in processes for mapping in process.memory_maps())
    daemon.kill()
    _, alive = psutil.wait_procs(processes, timeout=ENDS_WITHIN_S)
    assert not alive
    daemon.join()


def test_nothing_is_left_on_disk_and_no_file_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    paths = compressed_stack(tmp_path / "slices", RLELossless)
    before = psutil.Process().num_fds()
    volumes = [load(paths).volume for _ in range(3)]
    assert not list(scratch.iterdir())
    held = psutil.Process().num_fds()
    assert held <= before + len(volumes)  # a mapping keeps its file
    del volumes
    assert psutil.Process().num_fds() == before


def _write_sparse(folder: Path, count: int) -> Iterator[Path]:
    """Slices of 512 x 512 whose zeros take no room on disk."""
    for k in range(count):
        dataset = ct_dataset(axial_plane(0.5 * k, thickness=0.5), np.zeros((512, 512), np.uint16))
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        path = folder / f"{k:03}.dcm"
        with path.open("wb") as file:
            file.write(buffer.getvalue()[: -512 * 512 * 2])
            file.truncate(len(buffer.getvalue()))
        yield path


_MEASURE = """
import resource, sys
from pathlib import Path
from pipelines.volume import load
load(sorted(Path(sys.argv[1]).iterdir())[:3])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
volume = load(sorted(Path(sys.argv[1]).iterdir())).volume
print(volume.hu.nbytes, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_loading_takes_little_more_memory_than_the_volume(tmp_path: Path) -> None:
    count = len(list(_write_sparse(tmp_path, 400)))
    command = [sys.executable, "-c", _MEASURE, str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": "."})
    volume, growth = map(int, answer.stdout.split())
    assert volume == count * 512 * 512 * 2
    assert growth < 1.4 * volume


@given(
    data=st.binary(min_size=24, max_size=24),
    syntax=st.sampled_from([ExplicitVRLittleEndian, ExplicitVRBigEndian]),
    bits_stored=st.integers(min_value=8, max_value=16),
    pixel_representation=st.integers(min_value=0, max_value=1),
    slope=st.sampled_from([1.0, 2.0, 0.5]),
    intercept=st.integers(min_value=-40000, max_value=40000),
    padding=st.none() | st.tuples(st.integers(-40000, 0), st.integers(0, 70000)),
)
def test_values_are_those_of_arithmetic_without_bounds(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    data: bytes,
    syntax: UID,
    bits_stored: int,
    pixel_representation: int,
    slope: float,
    intercept: int,
    padding: tuple[int, int] | None,
) -> None:
    path = tmp_path_factory.mktemp("native") / "pixels"
    path.write_bytes(b"before" + data)
    pixels = Pixels(
        path, 6, 24, syntax, 1, 1, None, (3, 4), 16, bits_stored, bits_stored - 1, pixel_representation,
        "MONOCHROME2", slope, float(intercept), padding,
    )  # fmt: skip
    found = hounsfield(pixels)
    expected = [_by_hand(pixels, data[at : at + 2]) for at in range(0, 24, 2)]
    assert found.dtype == (np.int16 if slope.is_integer() else np.float32)
    assert found.ravel().tolist() == expected


def _by_hand(pixels: Pixels, encoded: bytes) -> float:
    value = int.from_bytes(encoded, "little" if pixels.syntax.is_little_endian else "big") % (1 << pixels.bits_stored)
    if pixels.pixel_representation == 1 and value >= 1 << (pixels.bits_stored - 1):
        value -= 1 << pixels.bits_stored
    if pixels.padding is not None and pixels.padding[0] <= value <= pixels.padding[1]:
        return -1024
    hu = max(-1024, value * pixels.slope + pixels.intercept)
    return min(hu, 32767) if pixels.slope.is_integer() else hu


def test_cores_are_no_more_than_the_process_was_told_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(6)))
    found = []
    for told in ("", "4", "64", "0", "4,2"):
        monkeypatch.setenv("OMP_NUM_THREADS", told)
        found.append(decoding.usable_cores())
    assert found == [6, 4, 6, 6, 6]
