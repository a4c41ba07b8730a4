"""Asks a PACS for earlier studies of a patient and fetches from it (PS3.4, annex C): C-FIND, C-GET or C-MOVE.

Everything has a limit, in time and in size, because a reading waits for it; whatever goes wrong is an `ArchiveError`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.uid import (
    JPEG2000,
    Comprehensive3DSRStorage,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SegmentationStorage,
)
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.reactor import stand_still_while_asking
from dicom_node.settings import PriorArchive
from pipelines.reasons import Reason, TriageError

UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
COMPRESSED = (JPEGLosslessSV1, JPEGLossless, JPEGLSLossless, JPEG2000Lossless, RLELossless, JPEG2000, JPEGBaseline8Bit)
FETCHED = {
    CTImageStorage: UNCOMPRESSED + COMPRESSED,
    EnhancedCTImageStorage: UNCOMPRESSED + COMPRESSED,
    SegmentationStorage: (*UNCOMPRESSED, RLELossless),
    Comprehensive3DSRStorage: UNCOMPRESSED,
}
"""What is fetched, and in which transfer syntaxes: one context for each, so that nothing need be re-encoded."""
MAXIMUM_PDU_BYTES = 131072
PENDING = (0xFF00, 0xFF01)
WARNING, OUT_OF_RESOURCES = 0xB, 0xA700


class ArchiveError(TriageError):
    """The PACS could not be asked, or not within the limits."""


@dataclass(slots=True, eq=False)
class _Basket:
    """Takes what is sent, up to the limits, into files of `folder`."""

    settings: PriorArchive
    deadline: float
    folder: Path = field(default_factory=Path)
    files: list[Path] = field(default_factory=list)
    held_bytes: int = 0
    is_full: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, event: evt.Event) -> int:
        content = event.encoded_dataset()
        with self._lock:
            self.held_bytes += len(content)
            self.is_full |= self.held_bytes > self.settings.maximum_bytes
            if self.is_full or self.is_late:
                return OUT_OF_RESOURCES
            path = self.folder / f"{len(self.files):05}.dcm"
            self.files.append(path)
        path.write_bytes(content)
        return 0x0000

    @property
    def is_late(self) -> bool:
        return time.monotonic() > self.deadline


class Archive:
    """An association with a PACS, open for questions."""

    def __init__(self, name: str, settings: PriorArchive, association: Association, basket: _Basket) -> None:
        self._name = name
        self._settings = settings
        self._association = association
        self._basket = basket

    def studies(self, patient_id: str, issuer: str, before: str) -> list[Dataset]:
        """The studies of a patient up to a date (YYYYMMDD), as the PACS tells them."""
        return self._find(
            "STUDY",
            PatientID=patient_id,
            IssuerOfPatientID=issuer,
            StudyDate=f"-{before}",
            PatientBirthDate="",
            PatientSex="",
            StudyInstanceUID="",
        )

    def report_series(self, study_instance_uid: str) -> list[Dataset]:
        """The series of structured reports of a study."""
        found = self._find(
            "SERIES", StudyInstanceUID=study_instance_uid, Modality="SR", SeriesInstanceUID="", SeriesNumber=""
        )
        return [one for one in found if one.get("Modality", "SR") == "SR"]

    def fetch(self, study_instance_uid: str, series_instance_uid: str, folder: Path) -> tuple[Path, ...]:
        """Fetch a series into a new folder; its files, none if the PACS has none of it to give."""
        folder.mkdir()
        self._basket.folder, self._basket.files = folder, []
        asked = _identifier("SERIES", StudyInstanceUID=study_instance_uid, SeriesInstanceUID=series_instance_uid)
        if self._settings.move_port is None:
            self._get(asked)
        else:
            self._move(asked, self._settings.move_port)
        return tuple(self._basket.files)

    def _find(self, level: str, **keys: str) -> list[Dataset]:
        model = StudyRootQueryRetrieveInformationModelFind
        if not self._accepts(model):
            raise self._unreachable("it takes no queries")
        found: list[Dataset] = []

        def ask() -> Any:
            return self._association.send_c_find(_identifier(level, **keys), model)

        def heed(identifier: Dataset | None) -> None:
            if identifier is not None:
                found.append(identifier)

        if (status := self._ask(ask, heed)) != 0:
            raise self._unreachable(f"it answers a query with status {status:04X}")
        return found

    def _get(self, asked: Dataset) -> None:
        model = StudyRootQueryRetrieveInformationModelGet
        if not self._accepts(model):
            raise self._unreachable("it takes no C-GET")
        self._check(self._ask(lambda: self._association.send_c_get(asked, model)), "C-GET")

    def _move(self, asked: Dataset, port: int) -> None:
        """Have the series sent to a storage SCP that is there for as long as this takes."""
        model = StudyRootQueryRetrieveInformationModelMove
        if not self._accepts(model):
            raise self._unreachable("it takes no C-MOVE")
        receiver = AE(ae_title=self._settings.move_ae_title)
        receiver.supported_contexts = _storage_contexts()
        try:
            server = receiver.start_server(("", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._basket.take)])
        except OSError as error:
            raise self._unreachable(f"port {port} cannot be listened on") from error
        assert server is not None  # as it does not block
        try:
            status = self._ask(lambda: self._association.send_c_move(asked, self._settings.move_ae_title, model))
            self._check(status, "C-MOVE")
        finally:
            server.shutdown()

    def _ask(self, ask: Callable[[], Any], heed: Callable[[Dataset | None], None] = lambda _: None) -> int:
        """Ask, heed each pending answer, and give the last status."""
        try:
            for status, identifier in ask():
                self._check_limits()
                if "Status" not in status:
                    raise self._unreachable("it ended the association, or gave no answer in time")
                if status.Status not in PENDING:
                    return int(status.Status)
                heed(identifier)
        except (RuntimeError, ValueError) as error:  # pynetdicom's, for an association that has ended
            raise self._unreachable("it ended the association") from error
        raise self._unreachable("it ended the association")

    def _check(self, status: int, what: str) -> None:
        """A warning, Bxxx, means that some instances failed: the rest is used."""
        self._check_limits()
        if status != 0 and status >> 12 != WARNING:
            raise self._unreachable(f"it answers a {what} with status {status:04X}")

    def _check_limits(self) -> None:
        if self._basket.is_full:
            self._association.abort()
            raise ArchiveError(
                Reason("prior.too_large", {"archive": self._name, "limit_mb": self._settings.maximum_mb})
            )
        if self._basket.is_late:
            self._association.abort()
            raise ArchiveError(
                Reason("prior.time_limit", {"archive": self._name, "limit_s": self._settings.time_limit_s})
            )

    def _accepts(self, model: str) -> bool:
        return any(context.abstract_syntax == model for context in self._association.accepted_contexts)

    def _unreachable(self, detail: str) -> ArchiveError:
        return unreachable(self._name, detail)


@contextmanager
def opened(name: str, settings: PriorArchive, ae_title: str) -> Iterator[Archive]:
    """An association with the PACS, released at the end. Raises `ArchiveError`."""
    ae = AE(ae_title=ae_title)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = settings.timeout_s
    basket = _Basket(settings, time.monotonic() + settings.time_limit_s)
    try:
        association = ae.associate(
            settings.host,
            settings.port,
            [*map(build_context, _MODELS), *_storage_contexts()],
            ae_title=settings.ae_title,
            max_pdu=MAXIMUM_PDU_BYTES,
            ext_neg=[build_role(sop_class, scp_role=True) for sop_class in FETCHED],
            evt_handlers=[(evt.EVT_C_STORE, basket.take)],
        )
    except OSError as error:
        raise unreachable(name, f"the host name {settings.host} is not known") from error
    if not association.is_established:
        raise unreachable(name, f"no association with {settings.ae_title} at {settings.host}:{settings.port}")
    stand_still_while_asking(association)
    try:
        yield Archive(name, settings, association, basket)
    finally:
        if association.is_established:
            association.release()


def unreachable(name: str, detail: str) -> ArchiveError:
    """The error for an archive that could not be asked."""
    return ArchiveError(Reason("prior.unreachable", {"archive": name, "detail": detail}))


_MODELS = (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)


def _storage_contexts() -> list[PresentationContext]:
    return [build_context(sop_class, syntax) for sop_class, syntaxes in FETCHED.items() for syntax in syntaxes]


def _identifier(level: str, **keys: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier
