"""The main job, end to end, on this machine: push, read, deliver, alert; and ask the PACS whether it is true."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import pydicom
from PIL import Image

from db import deliveries as delivery_rows
from db import studies as study_rows
from db.connect import Ledger, opened_ledger
from dicom_node.clock import utc_now
from dicom_node.demonstration import sender
from dicom_node.demonstration.node import Node, running_node, service_toml
from dicom_node.demonstration.pacs import Pacs, running_pacs
from dicom_node.demonstration.webhook import Phone, listening
from pipelines.phantom.head.bleeds import Kind
from pipelines.phantom.head.study import PhantomOptions, make_study

RESULT_WITHIN_S = 90.0
WITH_FINDING = {"SEG", "SR", "KO", "OT"}
CLEAN = {"SR", "OT"}
SETTLED = ("finding", "clean", "unsure", "not_read", "ignored")


@dataclass(frozen=True, slots=True)
class Case:
    """One study to push. `expected` are the answers that are right for it."""

    name: str
    files: tuple[Path, ...]
    expected: tuple[str, ...]

    @property
    def study_instance_uid(self) -> str:
        return str(pydicom.dcmread(self.files[0], specific_tags=["StudyInstanceUID"]).StudyInstanceUID)


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one case. `problems` is empty when all of it was verified."""

    case: Case
    images: int
    answer: str
    detail: str
    seconds_to_pacs: float | None
    seconds_to_alert: float | None
    in_pacs: tuple[str, ...]
    picture: Path | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Stand:
    """What runs for the demonstration."""

    node: Node
    ledger: Ledger
    pacs: Pacs
    phone: Phone
    pictures: Path


def demonstrate(folder: Path, pictures: Path, data: Path | None, tell: Callable[[str], None]) -> list[Line]:
    """Run the demonstration in `folder`, with the real heads of `data` too where it is given.

    A PNG of each study's key slice with what was found goes into `pictures`.
    """
    tell("Making two head CT phantoms: one with a hemorrhage of 30 mL in the brain, one clean")
    cases = [
        Case("phantom with a bleed", _phantom(folder / "positive", "intraparenchymal"), ("finding",)),
        Case("clean phantom", _phantom(folder / "negative", "none"), ("clean",)),
        *(_real_cases(data) if data else ()),
    ]
    with running_pacs(folder / "pacs") as pacs, listening() as phone:
        tell(f"PACS: {pacs.product} on port {pacs.port}; pushing with {sender.product()}")
        with running_node(folder, service_toml(folder, pacs, phone.url)) as node:
            tell(f"Node: AE title {node.settings.node.ae_title} on port {node.port}, ledger on SQLite")
            with opened_ledger(node.settings.node.database_url) as ledger:
                stand = _Stand(node, ledger, pacs, phone, pictures)
                return [_push_and_verify(case, stand, tell) for case in cases]


def _phantom(folder: Path, bleed: Kind | Literal["none"]) -> tuple[Path, ...]:
    made = make_study(folder, PhantomOptions(seed=7, bleed=bleed, volume_ml=30.0))
    return tuple(made.files)


def _real_cases(data: Path) -> list[Case]:
    head = data / "head"
    tilted = tuple(sorted((head / "ge_tilted_variable_spacing").glob("*.dcm")))
    study = tuple(
        path for path in sorted((head / "philips_phantom_study").rglob("*")) if path.is_file() and path.suffix != ".txt"
    )
    wanted = (
        Case("real tilted head", tilted, ("clean", "unsure")),
        Case("real study of a plastic head", study, ("clean", "unsure", "not_read")),
    )
    return [case for case in wanted if case.files]


def _push_and_verify(case: Case, stand: _Stand, tell: Callable[[str], None]) -> Line:
    node, ledger, pacs, phone = stand.node, stand.ledger, stand.pacs, stand.phone
    tell(f"Pushing {len(case.files)} images: {case.name}")
    alerts_before = len(phone.received)
    sender.push(case.files, port=node.port, called_ae_title=node.settings.node.ae_title)
    pushed_at = utc_now()
    study = _wait_until_settled(ledger, case.study_instance_uid)
    answers = [series for series in study.series if series.state != "ignored"] or list(study.series)
    chosen = min(answers, key=lambda series: study_rows.URGENCY.index(series.state))
    wants_alert = chosen.state == "finding"
    if wants_alert:
        _wait(lambda: len(phone.received) > alerts_before)
    found = pacs.find(case.study_instance_uid)
    modalities = tuple(sorted({str(instance.Modality) for instance in found}))
    with ledger.read() as connection:
        deliveries = delivery_rows.list_deliveries(connection, study_instance_uid=case.study_instance_uid)
    delivered_at = max((one.stored_at for one in deliveries if one.stored_at), default=None)
    picture = _picture(stand, [one.file for one in deliveries if one.kind == "summary_image"], case)
    alert_at = phone.received[alerts_before][0] if wants_alert and len(phone.received) > alerts_before else None
    missing = {one.sop_instance_uid for one in deliveries} - {str(instance.SOPInstanceUID) for instance in found}
    return Line(
        case,
        len(case.files),
        chosen.state,
        _detail(chosen),
        _seconds(pushed_at, delivered_at),
        _seconds(pushed_at, alert_at),
        modalities,
        picture,
        tuple(_problems(case, chosen.state, set(modalities), missing, wants_alert and alert_at is None)),
    )


def _problems(case: Case, answer: str, modalities: set[str], missing: set[str], no_alert: bool) -> list[str]:
    problems = []
    if answer not in case.expected:
        problems.append(f"the answer is {answer}, not {' or '.join(case.expected)}")
    if missing:
        problems.append(f"{len(missing)} results are not in the PACS")
    expected = {"finding": WITH_FINDING, "clean": CLEAN}.get(answer, set())
    if not expected <= modalities:
        problems.append(f"the PACS lacks {', '.join(sorted(expected - modalities))}")
    if answer == "clean" and "SEG" in modalities:
        problems.append("the PACS holds a segmentation of a clean head")
    if no_alert:
        problems.append("no alert came")
    return problems


def _wait_until_settled(ledger: Ledger, study_instance_uid: str) -> study_rows.Study:
    settled: list[study_rows.Study] = []

    def look() -> bool:
        with ledger.read() as connection:
            study = study_rows.find_study(connection, study_instance_uid)
            deliveries = delivery_rows.list_deliveries(connection, study_instance_uid=study_instance_uid)
        waiting = any(one.next_attempt_at is not None for one in deliveries)
        if study is None or waiting or any(series.state not in SETTLED for series in study.series):
            return False
        settled.append(study)
        return True

    if not _wait(look):
        raise RuntimeError(f"the study had no answer within {RESULT_WITHIN_S:.0f} s")
    return settled[0]


def _wait(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + RESULT_WITHIN_S
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _seconds(start: datetime, end: datetime | None) -> float | None:
    return None if end is None else (end - start).total_seconds()


def _detail(series: study_rows.SeriesState) -> str:
    if series.reason:
        return str(series.reason["text"])
    findings = (series.outcome or {}).get("findings", [])
    volume_ml = sum(float(one["volume_ml"]) for one in findings)
    marked = f"{len(findings)} marked, {volume_ml:.1f} mL in all. " if findings else ""
    return f"{marked}Score {series.score:.2f}"


def _picture(stand: _Stand, files: Sequence[str], case: Case) -> Path | None:
    if not files:
        return None
    image = pydicom.dcmread(stand.node.settings.node.spool / files[0])
    picture = stand.pictures / f"{case.name.replace(' ', '_')}.png"
    Image.fromarray(image.pixel_array).save(picture)
    return picture
