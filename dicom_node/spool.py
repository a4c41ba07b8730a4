"""Files that must outlive a crash: written beside, synchronised, then renamed to their final name."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

Room = Literal["instances", "objects", "quarantine"]
ROOMS: tuple[Room, ...] = ("instances", "objects", "quarantine")


class Spool:
    """The folder that holds the node's files. Names are hashes of the content: nothing of a patient stands in them."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._made: set[Path] = set()
        for folder in (*ROOMS, "tmp"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)

    def write(self, room: Room, name: str, parts: Iterable[bytes | memoryview]) -> str:
        """Make a file durable under `name` (hexadecimal) and give its path below the spool. Raises `OSError`.

        A file that stands there under this name already has the same content, and is kept.
        """
        relative = f"{room}/{name[:2]}/{name}.dcm"
        final = self.root / relative
        self._make_folder(final.parent)
        if final.exists():
            _synchronise_folder(final.parent)  # whoever renamed it may have crashed before doing this
            return relative
        descriptor, temporary = tempfile.mkstemp(dir=self.root / "tmp")
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                for part in parts:
                    _write_all(file.fileno(), part)
                os.fsync(file.fileno())
            Path(temporary).rename(final)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _synchronise_folder(final.parent)
        return relative

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

    def _make_folder(self, folder: Path) -> None:
        if folder not in self._made:
            folder.mkdir(exist_ok=True)
            _synchronise_folder(folder.parent)
            self._made.add(folder)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal. Raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_all(descriptor: int, part: bytes | memoryview) -> None:
    view = memoryview(part)
    while view:
        view = view[os.write(descriptor, view) :]


def _synchronise_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
