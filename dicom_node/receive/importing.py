"""Takes files in as if they had been pushed: the same checks, the same durability, an association of their own."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from db.connect import Ledger
from dicom_node.clock import Clock
from dicom_node.receive import part10
from dicom_node.receive.header import HeaderError, is_uid, read_header
from dicom_node.receive.policy import Announced
from dicom_node.receive.stage import Arrival, Intake, Sender
from dicom_node.receive.transfer_syntaxes import TRANSFER_SYNTAXES
from dicom_node.settings import Settings
from dicom_node.spool import Spool
from pipelines.reasons import Reason, TriageError, refuse

CALLING_AE_TITLE = "IMPORT"
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
_HEAD_BYTES = 2**16
_PART_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file; `reason` is None when it is held."""

    path: Path
    reason: Reason | None


def import_files(
    paths: Iterable[Path], settings: Settings, ledger: Ledger, spool: Spool, *, notify: Callable[[], None], clock: Clock
) -> Iterator[Imported]:
    """Enter files, and those of folders, one after another. A file that cannot be taken stops no other.

    The association ends, and reading can start, when the last one was given; close the iterator to end it before.
    """
    free_bytes = settings.receive.free_disk_mb * 2**20
    intake = Intake(ledger, spool, f"import-{os.getpid()}", notify=notify, clock=clock, free_bytes=free_bytes)
    sender = intake.open(CALLING_AE_TITLE, settings.node.ae_title, "local")
    try:
        for path in _files(paths):
            yield Imported(path, _import(path, intake, sender))
    finally:
        intake.end(sender, "released")


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(inside for inside in path.rglob("*") if inside.is_file())
        else:
            yield path


def _import(path: Path, intake: Intake, sender: Sender) -> Reason | None:
    try:
        return _enter(path, intake, sender)
    except OSError as error:
        return Reason("input.file_unreadable", {"detail": error.strerror or type(error).__name__})
    except TriageError as error:
        return error.reason


def _enter(path: Path, intake: Intake, sender: Sender) -> Reason | None:
    with path.open("rb") as file:
        opened = part10.open_file(file.read(_HEAD_BYTES))
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as whole:
            announced = _announced(opened, whole)
        file.seek(opened.data_set_offset)
        arrival = Arrival(intake, sender, announced)
        try:
            while part := file.read(_PART_BYTES):
                arrival.take(part)
            return arrival.finish()
        finally:
            arrival.close()


def _announced(opened: part10.Opened, whole: memoryview) -> Announced:
    """What a sender of this file would announce: what the data set says it is, else what stands before it.

    Raises `Refusal` for what no sender would get across.
    """
    announced = opened.announced
    syntax = announced.transfer_syntax_uid
    if announced.sop_class_uid == MEDIA_DIRECTORY:
        raise refuse("input.not_an_image_to_read", detail="a media directory")
    if syntax not in TRANSFER_SYNTAXES:
        named = syntax if is_uid(syntax) else "that it names"
        raise refuse("receive.transfer_syntax_not_taken", transfer_syntax_uid=named)
    with whole[opened.data_set_offset :] as data_set:
        try:
            header = read_header(data_set, syntax)
        except HeaderError:  # it is kept in quarantine, as when pushed
            return announced
    return Announced(header.sop_class_uid, header.sop_instance_uid, syntax)
