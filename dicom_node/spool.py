"""Files that must outlive a crash: written beside, synchronised, then renamed to their final name."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

Room = Literal["instances", "objects", "quarantine"]
ROOMS: tuple[Room, ...] = ("instances", "objects", "quarantine")

_process = secrets.token_hex(4)  # several hosts may share a spool, and have processes of one number
_numbers = itertools.count()


class Spool:
    """The folder that holds the node's files. Names are hashes of the content: nothing of a patient stands in them."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        (self.root / "tmp").mkdir(parents=True, exist_ok=True)
        for room in ROOMS:
            _make_folders(self.root / room)
        synchronise_folder(self.root)

    def write(self, room: Room, name: str, parts: Iterable[bytes | memoryview]) -> str:
        """Make a file durable under `name` (hexadecimal) and give its path below the spool. Raises `OSError`.

        A file that stands there under this name already has the same content, and is kept.
        """
        with self.begin() as file:
            for part in parts:
                file.write(part)
            return file.keep(room, name)

    def begin(self) -> GrowingFile:
        """Start a file whose name is not known yet. Raises `OSError`."""
        return GrowingFile(self)

    def path(self, relative: str) -> Path:
        """Where a file of the ledger lies."""
        return self.root / relative

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free

    def sweep(self) -> int:
        """Remove what a crash left half written; call it before anything writes. Gives the number of files."""
        left = list((self.root / "tmp").iterdir())
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)


class GrowingFile:
    """A file of the spool while it is written. Left without `keep`, it disappears."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._path: Path | None = spool.root / "tmp" / f"{_process}-{os.getpid()}-{next(_numbers)}"
        self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def write(self, part: bytes | memoryview) -> None:
        """Add to the end. Raises `OSError`."""
        view = memoryview(part)
        while view:
            view = view[os.write(self.descriptor, view) :]

    def keep(self, room: Room, name: str) -> str:
        """Make it durable under `name` (hexadecimal) and give its path below the spool. Raises `OSError`."""
        if self._path is None:
            raise ValueError("the file was kept or closed before")
        relative = f"{room}/{name[:2]}/{name}.dcm"
        final = self._spool.root / relative
        if not final.exists():
            os.fsync(self.descriptor)
            self._path.rename(final)
            self._path = None
        synchronise_folder(final.parent)  # whoever renamed it may have crashed before doing this
        return relative

    def close(self) -> None:
        """Let go of the file, and remove it unless it was kept."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        if self._path is not None:
            with contextlib.suppress(OSError):  # the disk that is failing may refuse this too; `sweep` gets it later
                self._path.unlink(missing_ok=True)
            self._path = None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal. Raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make_folders(room: Path) -> None:
    """The folders of a room, so that no image has to wait for one to be made durable."""
    room.mkdir(exist_ok=True)
    there = {entry.name for entry in room.iterdir()}
    for name in (f"{number:02x}" for number in range(256)):
        if name not in there:
            (room / name).mkdir(exist_ok=True)
    synchronise_folder(room)


def synchronise_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
