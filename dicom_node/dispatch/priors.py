"""Finds the earlier study that a series is compared with: among those of the ledger, else in a PACS.

It never keeps a series from being read: what goes wrong is a warning of the answer.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import structlog
from pydicom import Dataset, dcmread

from dicom_node.dispatch.archive import Archive, ArchiveError, opened, unreachable
from dicom_node.dispatch.policy import Identity, is_earlier
from dicom_node.process import is_alive
from dicom_node.settings import PriorArchive
from dicom_node.telemetry import token
from pipelines.catalogue import Prior
from pipelines.codes import Code
from pipelines.reasons import Reason, Refusal
from reporting.reading import EarlierReport, centers, read_report

log = structlog.get_logger()

OUR_SERIES_NUMBER = 9802
MOST_STUDIES = 5
MOST_REPORTS = 5
"""How far back, and how many reports of a study, are looked at."""
FOLDER = "prior-"
IDENTITY = ["PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate"]


@dataclass(frozen=True, slots=True)
class PriorSearch:
    """Where to look for an earlier study.

    `known` are those of the ledger, the newest first; they are tried before the `archives` are asked, each with its
    name, by the node that is called `ae_title`. What is fetched lies in a folder below `folder` while it is read.
    """

    known: tuple[Prior, ...] = ()
    archives: tuple[tuple[str, PriorArchive], ...] = ()
    ae_title: str = ""
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class FoundPrior:
    """What a search came to; `source` is `ledger` or the name of the PACS."""

    prior: Prior | None = None
    source: str = ""
    warnings: tuple[Reason, ...] = ()

    def as_json(self) -> dict[str, object] | None:
        """As results and the audit trail hold it: no UID of a study that is not theirs."""
        if self.prior is None:
            return None
        return {
            "series": token(self.prior.series_instance_uid),
            "study_date": self.prior.study_date.isoformat(),
            "images": len(self.prior.paths),
            "findings": len(self.prior.findings),
            "source": self.source,
        }

    def digest(self, revision_digest: str) -> str:
        """Names what an answer rests on: the instances that were read, and what they were compared with."""
        if self.prior is None and not self.warnings:
            return revision_digest
        facts = [
            revision_digest,
            self.as_json(),
            [warning.as_json() for warning in self.warnings],
            [] if self.prior is None else [dict(finding) for finding in self.prior.findings],
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


@contextmanager
def earlier_study(search: PriorSearch | None, files: Sequence[Path], looked_for: Code) -> Iterator[FoundPrior]:
    """The study to compare the series of `files` with; what was fetched for it is gone afterwards."""
    with ExitStack() as stack:
        try:
            found = FoundPrior() if search is None else _found(search, files, looked_for, stack)
        except Exception as error:  # noqa: BLE001  whatever it is: the series is to be read
            log.error("prior.failed", error=type(error).__name__)
            found = FoundPrior(warnings=(Reason("prior.not_comparable", {"detail": type(error).__name__}),))
        yield found


def _found(search: PriorSearch, files: Sequence[Path], looked_for: Code, stack: ExitStack) -> FoundPrior:
    now = _identity(files[0])
    known = next((prior for prior in search.known if is_earlier(_identity(prior.paths[0]), now)), None)
    if known is not None:
        return FoundPrior(known, "ledger")
    if search.folder is None or not search.archives:
        return FoundPrior()
    search.folder.mkdir(parents=True, exist_ok=True)
    clear_up(search.folder)
    folder = tempfile.TemporaryDirectory(prefix=f"{FOLDER}{os.getpid()}-", dir=search.folder)
    return _from_archives(search, now, looked_for, Path(stack.enter_context(folder)))


def day_of(text: str) -> date | None:
    """The day that a Study Date tells, or None where it is no date."""
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return None


def clear_up(folder: Path) -> None:
    """Remove what workers that have died left behind: it is somebody's images."""
    for left in folder.glob(f"{FOLDER}*"):
        if not is_alive(int(left.name.removeprefix(FOLDER).split("-")[0])):
            shutil.rmtree(left, ignore_errors=True)


def _from_archives(search: PriorSearch, now: Identity, looked_for: Code, folder: Path) -> FoundPrior:
    warnings: list[Reason] = []
    if not now.patient_id or not now.study_date:
        return FoundPrior()
    for name, settings in search.archives:
        try:
            with opened(name, settings, search.ae_title) as archive:
                prior = _look(archive, now, looked_for, folder / token(name))
        except ArchiveError as error:
            warnings.append(error.reason)
        except Exception as error:  # noqa: BLE001  a foreign PACS may send anything, and the series is to be read
            log.error("prior.failed", archive=name, error=type(error).__name__)
            warnings.append(unreachable(name, type(error).__name__).reason)
        else:
            if prior is not None:
                return FoundPrior(prior, name, tuple(warnings))
    return FoundPrior(warnings=tuple(warnings))


def _look(archive: Archive, now: Identity, looked_for: Code, folder: Path) -> Prior | None:
    """The newest study with a report of ours on the same thing, fetched; None where there is none."""
    folder.mkdir()
    answers = archive.studies(now.patient_id, now.issuer, now.study_date)
    # What a PACS does not tell is looked at in the files.
    studies = [one for one in map(identity_of, answers) if is_earlier(one, now)]
    for study in sorted(studies, key=lambda one: (one.study_date, one.study_instance_uid), reverse=True)[:MOST_STUDIES]:
        report = _report(archive, study.study_instance_uid, looked_for, folder)
        if report is not None:
            return _fetched(archive, report, now, folder)
    return None


def _report(archive: Archive, study: str, looked_for: Code, folder: Path) -> EarlierReport | None:
    """The newest report of ours on the same thing in a study."""
    series = sorted(archive.report_series(study), key=lambda one: one.get("SeriesNumber") != OUR_SERIES_NUMBER)
    reports = []
    for one in series[:MOST_REPORTS]:
        uid = str(one.SeriesInstanceUID)
        for path in archive.fetch(study, uid, folder / token(uid)):
            try:
                report = read_report(dcmread(path))
            except Refusal:
                continue
            if report.looked_for == looked_for.value and report.study_instance_uid == study and report.images:
                reports.append(report)
    return max(reports, key=lambda report: report.made_at, default=None)


def _fetched(archive: Archive, report: EarlierReport, now: Identity, folder: Path) -> Prior | None:
    """The images that a report rests on, and its findings with their places."""
    images = max(report.images, key=lambda uid: (len(report.images[uid]), uid))
    places: Mapping[str, tuple[float, float, float]] = {}
    if report.segmentation_series_uid is not None:
        uid = report.segmentation_series_uid
        for path in archive.fetch(report.study_instance_uid, uid, folder / token(uid)):
            places = {**places, **_centers(path)}
    paths = archive.fetch(report.study_instance_uid, images, folder / token(images))
    if paths and not is_earlier(_identity(paths[0]), now):
        return None
    findings = tuple(_with_place(finding, places) for finding in report.findings)
    return Prior(paths, findings, images, report.study_date)


def _centers(path: Path) -> Mapping[str, tuple[float, float, float]]:
    try:
        return centers(dcmread(path))
    except Refusal:
        return {}


def _with_place(
    finding: Mapping[str, object], places: Mapping[str, tuple[float, float, float]]
) -> Mapping[str, object]:
    place = places.get(str(finding["tracking_uid"]))
    return {**finding, "center_mm": None if place is None else list(place)}


def _identity(path: Path) -> Identity:
    return identity_of(dcmread(path, stop_before_pixels=True, specific_tags=IDENTITY))


def identity_of(dataset: Dataset) -> Identity:
    """Whose study a data set, or the answer to a query, is of; text as it stands there."""
    patient_id, issuer, born, sex, study, day = (str(dataset.get(keyword) or "").strip() for keyword in IDENTITY)
    return Identity(patient_id, issuer, born, sex, study, day)
