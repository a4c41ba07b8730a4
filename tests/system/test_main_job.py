"""The main job on a real node and a real PACS: what senders push comes back as findings, alerts and an audit trail."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from db import deliveries as delivery_rows
from db import studies
from db.connect import Ledger, open_ledger
from db.quarantine import list_quarantined
from db.schema import results as result_table
from db.schema import revisions as revision_table
from dicom_node.demonstration import sender
from dicom_node.demonstration.node import Node, running_node
from dicom_node.demonstration.webhook import Phone, listening
from pipelines.foreign import FOREIGN_ERRORS
from pipelines.phantom.head.study import MadeStudy, PhantomOptions, make_study
from tests.system.conftest import Orthanc, free_port, orthanc_binary
from tests.system.test_receive import answers, dcmsend, storescu

SETTLE_WITHIN_S = 150.0
SETTLED = {"finding", "clean", "unsure", "not_read", "ignored"}
READ = {"finding", "clean", "unsure"}

pytestmark = [
    pytest.mark.orthanc,
    pytest.mark.dcmtk,
    pytest.mark.skipif(shutil.which("storescu") is None, reason="DCMTK's command line tools are not installed"),
]


@dataclass
class Stand:
    """A node, its PACS, and the phone of the on-call physician."""

    node: Node
    orthanc: Orthanc
    phone: Phone
    ledger: Ledger
    folder: Path
    pushed: list[Path] = field(default_factory=list)

    def push(self, files: Sequence[Path]) -> None:
        sender.push(files, port=self.node.port, called_ae_title=self.node.settings.node.ae_title)
        self.pushed += files

    def push_as_it_is(self, files: Sequence[Path]) -> None:
        """Any class, and compressed images as they are."""
        sent = dcmsend(self.node.port, *files)
        assert sent.returncode == 0, sent.stdout
        self.pushed += files

    def study(self, uid: str) -> studies.Study:
        with self.ledger.read() as connection:
            found = studies.find_study(connection, uid)
        assert found is not None
        return found

    def settled(self, uid: str) -> studies.Study:
        """The study once each series has its answer and each result is where it belongs."""
        wait_for(lambda: self._is_settled(uid), f"the study did not settle: {self.log[-3000:]}")
        return self.study(uid)

    def _is_settled(self, uid: str) -> bool:
        with self.ledger.read() as connection:
            study = studies.find_study(connection, uid)
            sent = delivery_rows.list_deliveries(connection, study_instance_uid=uid)
        return (
            study is not None
            and all(series.state in SETTLED for series in study.series)
            and all(one.next_attempt_at is None for one in sent)
        )

    def answer(self, made: MadeStudy) -> studies.SeriesState:
        [series] = self.settled(study_uid(made.files)).series
        return series

    def results(self, uid: str) -> list[Path]:
        """The objects that the PACS holds of a study, as files."""
        target = self.folder / "fetched" / uid
        target.mkdir(parents=True, exist_ok=True)
        for one in self.orthanc.get("/instances?expand"):
            tags = self.orthanc.get(f"/instances/{one['ID']}/simplified-tags")
            if tags["StudyInstanceUID"] == uid:
                content = self.orthanc.content(f"/instances/{one['ID']}/file")
                (target / f"{tags['Modality']}_{tags['SOPInstanceUID']}.dcm").write_bytes(content)
        return sorted(target.iterdir())

    def count_results(self) -> int:
        with self.ledger.read() as connection:
            return len(connection.execute(result_table.select()).all())

    def reasons(self, uid: str) -> set[str | None]:
        return {None if series.reason is None else str(series.reason["code"]) for series in self.study(uid).series}

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dicom_node.cli.main", *words, "--config", str(self.node.config)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    @property
    def log(self) -> str:
        return (self.node.folder / "node.log").read_text()


def wait_for(true: Callable[[], bool], message: str) -> None:
    deadline = time.monotonic() + SETTLE_WITHIN_S
    while not true():
        assert time.monotonic() < deadline, message
        time.sleep(0.1)


def study_uid(files: Sequence[Path]) -> str:
    return str(pydicom.dcmread(files[0], specific_tags=["StudyInstanceUID"]).StudyInstanceUID)


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    folder = tmp_path_factory.mktemp("main_job")
    (folder / "orthanc").mkdir()
    orthanc = Orthanc(orthanc_binary(), folder / "orthanc")
    orthanc.start()
    try:
        with listening() as phone, running_node(folder, service_toml(folder, orthanc, phone)) as node:
            ledger = open_ledger(node.settings.node.database_url)
            yield Stand(node, orthanc, phone, ledger, folder)
            ledger.close()
    finally:
        orthanc.stop()


def service_toml(folder: Path, orthanc: Orthanc, phone: Phone) -> str:
    return f"""
[node]
host = "127.0.0.1"
port = {free_port()}
spool = "{folder / "spool"}"
[assemble]
quiet_time_s = 3
hard_limit_s = 20
[destinations.pacs]
ae_title = "{orthanc.ae_title}"
host = "{orthanc.host}"
port = {orthanc.port}
[alerts.oncall]
channels = ["{phone.url}"]
statuses = ["finding", "unsure"]
"""


def phantom(stand: Stand, name: str, **options: object) -> MadeStudy:
    made = make_study(stand.folder / name, PhantomOptions(pixels=256, **options))  # type: ignore[arg-type]
    stand.push(made.files)
    return made


@pytest.fixture(scope="module")
def bleeding(stand: Stand) -> MadeStudy:
    return phantom(stand, "bleeding", seed=7, bleed="intraparenchymal", volume_ml=40.0)


@pytest.fixture(scope="module")
def clean(stand: Stand) -> MadeStudy:
    return phantom(stand, "clean", seed=7)


@pytest.fixture(scope="module")
def tilted(stand: Stand) -> MadeStudy:
    options = {"tilt_degrees": 18.0, "has_variable_spacing": True}
    return phantom(stand, "tilted", seed=9, bleed="intraparenchymal", volume_ml=40.0, **options)


@pytest.fixture(scope="module")
def ge(stand: Stand, triage_data: Path) -> list[Path]:
    files = sorted((triage_data / "head" / "ge_tilted_variable_spacing").glob("*.dcm"))
    stand.push(files)
    return files


@pytest.fixture(scope="module")
def philips(stand: Stand, triage_data: Path) -> list[Path]:
    room = triage_data / "head" / "philips_phantom_study"
    files = [path for path in sorted(room.rglob("*")) if path.is_file() and path.suffix != ".txt"]
    stand.push(files)
    return files


def test_every_phantom_gets_one_answer_that_reaches_the_pacs(
    stand: Stand, bleeding: MadeStudy, clean: MadeStudy, tilted: MadeStudy
) -> None:
    for made in (bleeding, clean, tilted):
        answer = stand.answer(made)
        assert answer.state in READ, answer.reason
        assert answer.instance_count == len(made.files)
        held = [pydicom.dcmread(path, stop_before_pixels=True) for path in stand.results(study_uid(made.files))]
        assert Counter(one.Modality for one in held) >= Counter(["SR", "OT"])
        with stand.ledger.read() as connection:
            sent = delivery_rows.list_deliveries(connection, study_instance_uid=study_uid(made.files))
        assert {one.state for one in sent} == {"confirmed"}
        assert {one.sop_instance_uid for one in sent} == {str(one.SOPInstanceUID) for one in held}


def test_the_answers_to_the_phantoms_are_right(
    stand: Stand, bleeding: MadeStudy, clean: MadeStudy, tilted: MadeStudy
) -> None:
    """Holds with trained weights only."""
    assert [stand.answer(made).state for made in (bleeding, clean, tilted)] == ["finding", "clean", "finding"]
    for made in (bleeding, tilted):
        results = [pydicom.dcmread(path) for path in stand.results(study_uid(made.files))]
        assert Counter(one.Modality for one in results) == Counter(["SEG", "SR", "KO", "OT"])
        [segmentation] = [one for one in results if one.Modality == "SEG"]
        found = frames_on_their_slices(segmentation, made.files)
        blood = sum(float(made.blood[slice_].sum()) for slice_ in range(len(made.files)))
        shared = sum(float(made.blood[slice_][mask].sum()) for slice_, mask in found)
        marked = sum(int(mask.sum()) for _, mask in found)
        assert 2 * shared / (blood + marked) > 0.4
    clean_results = [pydicom.dcmread(path) for path in stand.results(study_uid(clean.files))]
    assert Counter(one.Modality for one in clean_results) == Counter(["SR", "OT"])
    alerted = [str(message) for _, message in stand.phone.received]
    assert len(alerted) >= 2


def frames_on_their_slices(segmentation: Dataset, sources: Sequence[Path]) -> list[tuple[int, np.ndarray]]:
    """The masks by number of slice; each corner of each frame lies within half a voxel of that of its source image."""
    by_uid = {}
    for number, path in enumerate(sources):
        image = pydicom.dcmread(path, stop_before_pixels=True)
        by_uid[image.SOPInstanceUID] = number, image
    masks = segmentation.pixel_array.astype(bool).reshape(-1, segmentation.Rows, segmentation.Columns)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    found = []
    for mask, groups in zip(masks, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        [reference] = groups.DerivationImageSequence[0].SourceImageSequence
        number, image = by_uid[reference.ReferencedSOPInstanceUID]
        frame = Dataset()
        for groups_of, name in ((groups, "PlanePositionSequence"), (shared, "PlaneOrientationSequence")):
            frame.update(getattr(groups_of if name in groups_of else shared if name in shared else groups, name)[0])
        frame.update((shared if "PixelMeasuresSequence" in shared else groups).PixelMeasuresSequence[0])
        frame.Rows, frame.Columns = segmentation.Rows, segmentation.Columns
        apart = np.linalg.norm(corners(frame) - corners(image), axis=1).max()
        assert apart <= min(map(float, image.PixelSpacing)) / 2
        found.append((number, mask))
    return found


def corners(image: Dataset) -> np.ndarray:
    """Where the corner pixels of an image lie (mm, LPS; PS3.3, C.7.6.2.1.1)."""
    origin = np.array(image.ImagePositionPatient, float)
    along_row, along_column = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
    row_spacing, column_spacing = map(float, image.PixelSpacing)
    rows, columns = image.Rows - 1, image.Columns - 1
    return np.array(
        [
            origin + along_row * column * column_spacing + along_column * row * row_spacing
            for row in (0, rows)
            for column in (0, columns)
        ]
    )


def test_the_objects_in_the_pacs_are_valid(
    stand: Stand, bleeding: MadeStudy, clean: MadeStudy, tilted: MadeStudy
) -> None:
    for made in (bleeding, clean, tilted):
        stand.answer(made)
        check_objects(stand, made.files)


def check_objects(stand: Stand, sources: Sequence[Path]) -> None:
    files = stand.results(study_uid(sources))
    assert files
    for file in files:
        assert errors_of("dciodvfy", "-new", file) == [], file.name
        match file.name[:2]:
            case "SR" | "KO":
                dumped = run("dsrdump", "+Pc", file)
                assert dumped.returncode == 0 and "E:" not in dumped.stderr, dumped.stderr
            case "SE":
                info = run("gdcminfo", file)
                assert info.returncode == 0 and "MediaStorage" in info.stdout, info.stderr
                frames_on_their_slices(pydicom.dcmread(file), sources)
    assert errors_of("dcentvfy", *sources, *files) == []


def errors_of(tool: str, *arguments: object) -> list[str]:
    done = run(tool, *arguments)
    return [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line]


def run(tool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    command = [tool, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def test_the_tilted_real_head_is_read_on_its_true_planes(stand: Stand, ge: list[Path]) -> None:
    [series] = stand.settled(study_uid(ge)).series
    assert series.state in READ, series.reason
    assert series.outcome is not None
    warned = {warning["code"] for warning in series.outcome["warnings"]}
    assert {"geometry.tilted", "geometry.variable_spacing"} <= warned
    check_objects(stand, ge)


def test_of_the_philips_study_the_brain_series_is_chosen(stand: Stand, philips: list[Path]) -> None:
    study = stand.settled(study_uid(philips))
    names = {}
    for path in philips:
        uid = str(pydicom.dcmread(path, specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)
        names[uid] = next(part for part in path.parts if part.startswith("S") and part[1:].isdigit())
    by_name = {names[series.series_instance_uid]: series for series in study.series}
    assert by_name["S2010"].pipeline == "hemorrhage"
    assert by_name["S2010"].state in {*READ, "not_read"}
    for ignored in ("S1000", "S4010"):
        assert by_name[ignored].state == "ignored"
        assert by_name[ignored].reason is not None and by_name[ignored].reason["text"]


def test_alerts_name_no_patient(stand: Stand, bleeding: MadeStudy, clean: MadeStudy, tilted: MadeStudy) -> None:
    alerted = sum(stand.answer(made).state in ("finding", "unsure") for made in (bleeding, clean, tilted))
    wait_for(lambda: len(stand.phone.received) >= alerted, "an alert is missing")
    words = {word for made in (bleeding, clean, tilted) for word in patient_words(made.files[:1])}
    for _, message in stand.phone.received:
        assert not [word for word in words if word in json.dumps(message)]


def patient_words(files: Sequence[Path]) -> set[str]:
    """What names a patient in these files; short words would be found by chance."""
    found: set[str] = set()
    for path in files:
        try:
            image = pydicom.dcmread(
                path, specific_tags=["PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID"]
            )
            values = [str(image.get(word, "")) for word in ("PatientName", "PatientID", "AccessionNumber")]
            found |= {*values, str(image.get("StudyInstanceUID", ""))}
        except (*FOREIGN_ERRORS, InvalidDicomError):
            continue
    return {word for word in found if len(word) > 5}


def test_the_trail_shows_each_step_and_holds(stand: Stand, bleeding: MadeStudy) -> None:
    uid = study_uid(bleeding.files)
    stand.answer(bleeding)
    verified = stand.cli("audit", "verify", "--json")
    assert verified.returncode == 0 and json.loads(verified.stdout)["holds"] is True
    told = json.loads(stand.cli("story", uid, "--json").stdout)
    names = [event["event"] for event in told["events"]]
    steps = ["series.received", "decision.made", "reading.done", "delivery.stored", "delivery.confirmed"]
    assert [name for name in dict.fromkeys(names) if name in steps] == steps


def test_pushing_it_again_changes_nothing(stand: Stand, clean: MadeStudy) -> None:
    uid = study_uid(clean.files)
    before = stand.answer(clean), stand.count_results(), stand.results(uid)
    stand.push(clean.files)
    stand.push(clean.files[:3])
    assert (stand.answer(clean), stand.count_results(), stand.results(uid)) == before


def test_late_slices_make_a_revision_that_supersedes(stand: Stand) -> None:
    made = make_study(stand.folder / "late", PhantomOptions(seed=21, pixels=256, slice_mm=8.0))
    uid = study_uid(made.files)
    stand.push(made.files[:-2])
    first = stand.answer(made)
    assert (first.revision_number, first.instance_count) == (1, len(made.files) - 2)
    stand.push(made.files[-2:])
    second = stand.answer(made)
    assert (second.revision_number, second.instance_count) == (2, len(made.files))
    with stand.ledger.read() as connection:
        rows = connection.execute(
            revision_table.select()
            .where(revision_table.c.series_instance_uid == second.series_instance_uid)
            .order_by(revision_table.c.number)
        ).all()
    assert [(row.state, row.superseded_by) for row in rows] == [("superseded", rows[1].revision_id), ("read", None)]
    assert first.outcome != second.outcome
    assert errors_of("dcentvfy", *made.files, *stand.results(uid)) == []


def test_our_own_results_are_stored_and_never_read(stand: Stand, bleeding: MadeStudy) -> None:
    uid = study_uid(bleeding.files)
    answer, count = stand.answer(bleeding), stand.count_results()
    results = stand.results(uid)
    stand.push_as_it_is(results)
    study = stand.settled(uid)
    assert len(study.series) == 1 + len(results)
    others = [series for series in study.series if series.series_instance_uid != answer.series_instance_uid]
    assert {series.state for series in others} == {"ignored"}
    assert {series.reason["code"] for series in others if series.reason} == {"route.own_result"}
    assert stand.count_results() == count
    assert stand.results(uid) == results


def test_a_few_slices_of_a_chest_are_not_read_as_a_whole_one(stand: Stand, triage_data: Path) -> None:
    files = sorted((triage_data / "chest" / "cptac_series").glob("*/000[1-6].dcm"))
    stand.push_as_it_is(files)
    study = stand.settled(study_uid(files))
    assert {(series.state, series.pipeline) for series in study.series} == {("not_read", "nodule")}
    assert stand.reasons(study.study_instance_uid) == {"body_part.unexpected"}


def test_odd_files_are_stored_or_refused_and_the_node_lives_on(stand: Stand, triage_data: Path) -> None:
    files = sorted(path for path in (triage_data / "odd").iterdir() if path.suffix not in (".md", ".csv"))
    pids = stand.node.pids()
    answered = 0
    for file in files:
        told = answers(storescu(stand.node.port, file))
        if not told:  # it names a transfer syntax that only this one proposes, or is no DICOM at all
            dcmsend(stand.node.port, file)
        assert all(status == 0 or comment for status, comment in told), file.name
        answered += bool(told)
    assert answered > 40
    with stand.ledger.read() as connection:
        assert all(row.reason["text"] for row in list_quarantined(connection))
    with stand.ledger.read() as connection:
        pushed = [study.study_instance_uid for study in studies.list_studies(connection)]
    for uid in pushed:
        study = stand.settled(uid)
        for series in study.series:
            assert series.state in READ or series.reason, series
    assert stand.node.answers()
    assert stand.node.pids() == pids
    assert all(json.loads(line) for line in stand.log.splitlines())
    assert "stage.failed" not in stand.log
    assert "reading.failed" not in stand.log
    verified = stand.cli("audit", "verify", "--json")
    assert verified.returncode == 0
    assert not [word for word in patient_words([*stand.pushed, *files]) if word in stand.log]
