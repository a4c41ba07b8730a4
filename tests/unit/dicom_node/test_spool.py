from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dicom_node import spool as module
from dicom_node.spool import ROOMS, Spool, sha256_of

NAME = "ab" * 32


def left_over(spool: Spool) -> list[Path]:
    return list((spool.root / "tmp").iterdir())


def test_a_file_is_written_whole_under_its_name(spool: Spool) -> None:
    relative = spool.write("instances", NAME, [b"one", memoryview(b"two")])
    assert relative == f"instances/ab/{NAME}.dcm"
    assert spool.path(relative).read_bytes() == b"onetwo"
    assert spool.path(relative).stat().st_mode & 0o077 == 0, "nobody else may read it"
    assert left_over(spool) == []


def test_it_is_durable_before_it_has_its_name(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data, then name, then the folder that holds the name."""
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noting_fsync(descriptor: int) -> None:
        done.append("file" if Path(f"/proc/self/fd/{descriptor}").readlink().parent == spool.root / "tmp" else "folder")
        fsync(descriptor)

    def noting_rename(self: Path, target: Path) -> Path:
        done.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "rename", noting_rename)
    spool.write("objects", NAME, [b"content"])
    assert done == ["file", "rename", "folder"]


def test_the_same_content_twice_is_one_file(spool: Spool) -> None:
    first = spool.write("instances", NAME, [b"content"])
    inode = spool.path(first).stat().st_ino
    assert spool.write("instances", NAME, [b"content"]) == first
    assert spool.path(first).stat().st_ino == inode
    assert left_over(spool) == []


def test_a_full_disk_leaves_nothing_behind(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    written = os.write

    def full(descriptor: int, data: memoryview) -> int:
        if len(data) > 4:
            return written(descriptor, data[:4])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        spool.write("instances", NAME, [b"content"])
    assert left_over(spool) == []
    assert not list((spool.root / "instances").rglob("*.dcm"))


def test_a_write_in_parts_is_completed(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    written = os.write
    monkeypatch.setattr(module.os, "write", lambda descriptor, data: written(descriptor, data[:3]))
    relative = spool.write("instances", NAME, [b"more than three bytes"])
    assert spool.path(relative).read_bytes() == b"more than three bytes"


def test_a_disk_that_fails_at_the_end_leaves_nothing_behind(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="Input/output"):
        spool.write("instances", NAME, [b"content"])
    assert left_over(spool) == []
    assert not list((spool.root / "instances").rglob("*.dcm"))


def test_a_growing_file_that_is_not_kept_disappears(spool: Spool) -> None:
    with spool.begin() as file:
        file.write(b"half")
        assert len(left_over(spool)) == 1
    assert left_over(spool) == []
    with pytest.raises(ValueError, match="kept or closed"):
        file.keep("instances", NAME)


def test_a_file_is_kept_once(spool: Spool) -> None:
    with spool.begin() as file:
        file.write(b"whole")
        relative = file.keep("quarantine", NAME)
        with pytest.raises(ValueError, match="kept or closed"):
            file.keep("quarantine", NAME)
    assert spool.path(relative).read_bytes() == b"whole"


def test_what_a_crash_left_is_swept_and_nothing_else(spool: Spool) -> None:
    kept = spool.write("instances", NAME, [b"content"])
    spool.begin()
    spool.begin()
    assert spool.sweep() == 2
    assert spool.sweep() == 0
    assert spool.path(kept).is_file()


def test_opening_it_again_keeps_what_it_holds(spool: Spool) -> None:
    kept = spool.write("objects", NAME, [b"content"])
    again = Spool(spool.root)
    assert again.path(kept).read_bytes() == b"content"
    assert {path.name for path in spool.root.iterdir()} == {*ROOMS, "tmp"}
    assert again.free_bytes() > 0


def test_the_hash_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    assert sha256_of(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
