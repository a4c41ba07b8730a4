"""Takes instances in: the bytes to a durable file, the row to the ledger, and only then the answer."""

from __future__ import annotations

import errno
import hashlib
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

import structlog
from sqlalchemy import Connection

from db.associations import Association, End, end_association, enter_association, mark_lost
from db.connect import Ledger, LedgerError
from db.instances import Instance, enter_instance, held_content
from db.quarantine import Quarantined, enter_quarantined
from db.series import Series, Study, enter_series, enter_study, open_revision, study_of_series
from dicom_node.clock import Clock
from dicom_node.receive import part10, policy
from dicom_node.receive.group_commit import GroupCommit
from dicom_node.receive.header import Header, HeaderError, read_header
from dicom_node.receive.policy import Announced, Content
from dicom_node.receive.refusals import Refusals
from dicom_node.spool import GrowingFile, Room, Spool
from pipelines.reasons import Reason

log = structlog.get_logger()

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(slots=True)
class Sender:
    """One accepted association. It is entered in the ledger with the first instance that comes on it."""

    association: Association
    entered: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """A data set that is durable in the spool."""

    announced: Announced
    file: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the ledger made of a data set."""

    reason: Reason | None = None
    opened_revision: bool = False


class Intake:
    """What all associations of one receiving process share."""

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        receiver: str,
        *,
        notify: Callable[[], None],
        clock: Clock,
        free_bytes: int,
    ) -> None:
        self.spool = spool
        self._commits = GroupCommit(ledger)
        self.refusals = Refusals(self._commits, receiver, clock)
        self._receiver = receiver
        self._notify = notify
        self._clock = clock
        self._free_bytes = free_bytes

    def recover(self) -> None:
        """Note the associations that this receiver held when it died. Raises `LedgerError`."""
        if self._commits.submit(lambda connection: mark_lost(connection, self._receiver, self._clock())):
            self._notify()

    def open(self, calling_ae_title: str, called_ae_title: str, peer_address: str) -> Sender:
        """An association was accepted."""
        identity = (uuid4().hex, self._receiver, calling_ae_title, called_ae_title, peer_address)
        return Sender(Association(*identity, opened_at=self._clock()))

    def end(self, sender: Sender, how: End) -> None:
        """The association ended. What it brought can be read from now on."""
        if not sender.entered:
            return
        identity = sender.association.association_id
        try:
            self._commits.submit(lambda connection: end_association(connection, identity, how, self._clock()))
        except LedgerError as error:  # its series then wait out the quiet time, or the restart of this receiver
            log.error("ledger.unavailable", error=str(error))
        self._notify()

    def has_room(self) -> bool:
        """Whether the disk of the spool has more free than must stay so."""
        return self.spool.free_bytes() >= self._free_bytes

    def enter(self, sender: Sender, stored: Stored, header: Header) -> Reason | None:
        """Enter a data set in the ledger: None once that is durable, else why it is refused."""
        return self._commit(sender, lambda connection: self._enter(connection, sender.association, stored, header))

    def set_aside(self, sender: Sender, stored: Stored, reason: Reason) -> Reason:
        """Enter a data set in the quarantine for `reason`. Gives the reason to answer with."""
        failure = self._commit(
            sender, lambda connection: self._set_aside(connection, sender.association, stored, reason)
        )
        return failure or reason

    def _commit(self, sender: Sender, change: Callable[[Connection], _Entry]) -> Reason | None:
        def with_association(connection: Connection) -> _Entry:
            if not sender.entered:
                enter_association(connection, sender.association)
            return change(connection)

        try:
            entry = self._commits.submit(with_association)
        except LedgerError as error:
            log.error("ledger.unavailable", error=str(error))
            return Reason("receive.ledger_unavailable")
        sender.entered = True
        if entry.opened_revision:
            self._notify()
        return entry.reason

    def _enter(self, connection: Connection, association: Association, stored: Stored, header: Header) -> _Entry:
        held = held_content(connection, header.sop_instance_uid)
        study = study_of_series(connection, header.series_instance_uid)
        verdict = policy.judge(
            Content(stored.sha256, stored.announced.transfer_syntax_uid),
            Content(held.sha256, held.transfer_syntax_uid) if held else None,
            header.study_instance_uid,
            study,
        )
        if verdict.reason is not None:
            return self._set_aside(connection, association, stored, verdict.reason)
        if verdict.fate == "already_held":
            return _Entry()
        now = self._clock()
        enter_study(connection, _study(header), now)
        if study is None:
            enter_series(connection, _series(header))
        revision = open_revision(connection, header.series_instance_uid, now)
        instance = Instance(
            sop_instance_uid=header.sop_instance_uid,
            sop_class_uid=header.sop_class_uid,
            series_instance_uid=header.series_instance_uid,
            study_instance_uid=header.study_instance_uid,
            revision_number=revision.number,
            association_id=association.association_id,
            file=stored.file,
            sha256=stored.sha256,
            size_bytes=stored.size_bytes,
            transfer_syntax_uid=stored.announced.transfer_syntax_uid,
            received_at=now,
        )
        if not enter_instance(connection, instance):
            raise LedgerError("another process entered this instance at the same moment")
        return _Entry(opened_revision=revision.opened)

    def _set_aside(self, connection: Connection, association: Association, stored: Stored, reason: Reason) -> _Entry:
        quarantined = Quarantined(
            at=self._clock(),
            association_id=association.association_id,
            sop_class_uid=stored.announced.sop_class_uid,
            sop_instance_uid=stored.announced.sop_instance_uid,
            transfer_syntax_uid=stored.announced.transfer_syntax_uid,
            file=stored.file,
            sha256=stored.sha256,
            reason=reason.as_json(),
        )
        if enter_quarantined(connection, quarantined):
            self.refusals.record_kept(connection, association, reason)
        return _Entry(reason)


class Arrival:
    """One data set while it comes. It takes no more memory than a fragment; a failure is answered at the end."""

    def __init__(self, intake: Intake, sender: Sender, announced: Announced) -> None:
        self._intake = intake
        self._sender = sender
        self._announced = announced
        self._digest = hashlib.sha256()
        self._size = 0
        self._meta = part10.encode_meta(announced)
        self._file: GrowingFile | None = None
        self._failure: Reason | None = None if intake.has_room() else Reason("receive.disk_full")
        if self._failure is None:
            self._start()

    def take(self, fragment: bytes | memoryview) -> None:
        """Add a fragment of the data set. After a failure the rest is let pass, so that the sender can be told."""
        if self._file is None:
            return
        self._digest.update(fragment)
        self._size += len(fragment)
        try:
            self._file.write(fragment)
        except OSError as error:
            self._fail(error)

    def finish(self) -> Reason | None:
        """The data set is whole: None once file and row are durable, else why it is refused."""
        reason = self._store() if self._failure is None else self._failure
        self.close()
        if self._failure is not None:
            self._intake.refusals.refused(self._sender.association, self._failure)
        return reason

    def close(self) -> None:
        """Let go of what was not stored."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _start(self) -> None:
        try:
            self._file = self._intake.spool.begin()
            self._file.write(self._meta)
        except OSError as error:
            self._fail(error)

    def _store(self) -> Reason | None:
        header = self._header()
        if isinstance(header, Reason):
            return self._set_aside(header)
        if reason := policy.check_announcement(self._announced, header):
            return self._set_aside(reason)
        stored = self._keep("instances")
        return self._failure if stored is None else self._intake.enter(self._sender, stored, header)

    def _set_aside(self, reason: Reason) -> Reason | None:
        stored = self._keep("quarantine")
        return self._failure if stored is None else self._intake.set_aside(self._sender, stored, reason)

    def _header(self) -> Header | Reason:
        assert self._file is not None
        with (
            mmap.mmap(self._file.descriptor, 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as whole,
            whole[len(self._meta) :] as data_set,
        ):
            try:
                return read_header(data_set, self._announced.transfer_syntax_uid)
            except HeaderError as error:
                return error.reason

    def _keep(self, room: Room) -> Stored | None:
        assert self._file is not None
        digest = self._digest.digest()
        name = hashlib.sha256(self._announced.transfer_syntax_uid.encode() + b"\0" + digest).hexdigest()
        try:
            file = self._file.keep(room, name)
        except OSError as error:
            self._fail(error)
            return None
        return Stored(self._announced, file, digest.hex(), self._size)

    def _fail(self, error: OSError) -> None:
        self.close()
        if error.errno in _NO_ROOM:
            self._failure = Reason("receive.disk_full")
        else:
            self._failure = Reason("receive.storage_failed", {"detail": error.strerror or type(error).__name__})


def _study(header: Header) -> Study:
    return Study(
        study_instance_uid=header.study_instance_uid,
        patient_id=header.patient_id,
        patient_name=header.patient_name,
        accession_number=header.accession_number,
        study_date=header.study_date,
        study_description=header.study_description,
    )


def _series(header: Header) -> Series:
    return Series(
        series_instance_uid=header.series_instance_uid,
        study_instance_uid=header.study_instance_uid,
        modality=header.modality,
        series_description=header.series_description,
    )
