"""A new pipeline, kind of object, kind of destination and alert channel is one new file each and one line of
configuration: here four such files are dropped into their rooms, and a study is brought through all of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydicom import dcmread

import pipelines
import reporting.objects
from db import deliveries, studies
from db.connect import Ledger
from dicom_node.alert import catalogue as alert_catalogue
from dicom_node.alert import channels
from dicom_node.alert.stage import AlertStage, RaiseStage
from dicom_node.assemble.stage import AssembleStage
from dicom_node.deliver import catalogue as deliver_catalogue
from dicom_node.deliver import destinations
from dicom_node.deliver.stage import DeliverStage
from dicom_node.dispatch import run
from dicom_node.dispatch.stage import DispatchStage
from dicom_node.route.stage import RouteStage
from dicom_node.settings import parse
from dicom_node.spool import Spool
from pipelines.catalogue import catalogue as pipeline_catalogue
from reporting import catalogue as report_catalogue
from tests.conftest import MovableClock
from tests.unit.db.queued import slices
from tests.unit.dicom_node.dispatch.test_stage import HereAndNow
from tests.unit.dicom_node.made import Sender, settle

PIPELINE = """
from pipelines.catalogue import PipelineSettings, Reading
from pipelines.codes import BRAIN, INTRACRANIAL_HEMORRHAGE
from pipelines.findings import ModelIdentity, Outcome
from pipelines.volume import load

class Reader:
    model = ModelIdentity("seam", "1", "0" * 64)
    def read(self, paths, prior=None):
        loaded = load(paths)
        return Reading(Outcome("unsure", 0.5, model=self.model), loaded.volume, loaded.headers)

class Seam:
    name = "seam"
    settings = PipelineSettings
    looks_for = INTRACRANIAL_HEMORRHAGE
    site = BRAIN
    window = (40.0, 80.0)
    compares_with_prior = False
    def open(self, settings):
        return Reader()

PIPELINE = Seam()
"""
OBJECT = """
from reporting.objects.summary_image import SummaryImage

class Seam(SummaryImage):
    kind = "seam_picture"
    series_number = 9899

OBJECT = Seam()
"""
DESTINATION = """
from contextlib import contextmanager
from pathlib import Path
from dicom_node.deliver.catalogue import Answer
from dicom_node.settings import Destination

class SeamSettings(Destination):
    kind: str = "seam"
    folder: Path

class Session:
    def __init__(self, folder):
        self.folder = folder
    def store(self, parcel):
        (self.folder / f"{parcel.sop_instance_uid}.dcm").write_bytes(parcel.path.read_bytes())
        return Answer("accepted", 0, "")
    def find(self, parcel):
        return "found" if (self.folder / f"{parcel.sop_instance_uid}.dcm").is_file() else "absent"

class Seam:
    name = "seam"
    settings = SeamSettings
    @contextmanager
    def connect(self, name, settings, ae_title, parcels):
        yield Session(settings.folder)
    def check(self, name, settings, ae_title):
        return "is there"

KIND = Seam()
"""
CHANNEL = """
from pathlib import Path

class Channel:
    name = "seam"
    def __init__(self, file):
        self.file = file
    def send(self, message):
        self.file.write_text(message.title + message.text)

class Seam:
    schemes = frozenset({"seam"})
    def open(self, url):
        return Channel(Path(url.removeprefix("seam://")))

KIND = Seam()
"""
ROOMS: dict[ModuleType, tuple[str, Callable[[], None]]] = {
    pipelines: (PIPELINE, pipeline_catalogue.cache_clear),
    reporting.objects: (OBJECT, report_catalogue.objects.cache_clear),
    destinations: (DESTINATION, deliver_catalogue.catalogue.cache_clear),
    channels: (CHANNEL, alert_catalogue.catalogue.cache_clear),
}


@pytest.fixture(autouse=True)
def one_new_file_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for number, (room, (content, clear)) in enumerate(ROOMS.items()):
        folder = tmp_path / f"room{number}"
        folder.mkdir()
        (folder / "made_seam.py").write_text(content)
        monkeypatch.setattr(room, "__path__", [*room.__path__, str(folder)])
        clear()
    yield
    monkeypatch.undo()
    for room, (_, clear) in ROOMS.items():
        sys.modules.pop(f"{room.__name__}.made_seam", None)
        clear()
    run._reader.cache_clear()


def test_four_new_files_and_their_lines_of_configuration_are_enough(
    tmp_path: Path, ledger: Ledger, spool: Spool, clock: MovableClock
) -> None:
    (tmp_path / "archive").mkdir()
    settings = parse(f"""
[node]
spool = "{spool.root}"
[routes.seam]
pipeline = "seam"
when = {{ Modality = "CT" }}
[destinations.archive]
kind = "seam"
folder = "{tmp_path / "archive"}"
[alerts.oncall]
channels = ["seam://{tmp_path / "phone"}"]
statuses = ["unsure"]
""")
    Sender(ledger, spool).push(slices(1), clock())
    engine: Any = HereAndNow()
    stages: list[Any] = [
        AssembleStage(ledger, spool, settings),
        RouteStage(ledger, spool, settings),
        DispatchStage(ledger=ledger, settings=settings, spool=spool, engine=engine, clock=clock, notify=lambda: None),
        DeliverStage("archive", settings, ledger, spool, clock),
        RaiseStage(ledger, settings),
        AlertStage("oncall", settings, ledger, clock),
    ]
    for stage in stages:
        assert settle(stage, clock()) == 1, stage.name
    with ledger.read() as connection:
        [study] = studies.list_studies(connection)
        sent = deliveries.list_deliveries(connection)
    [series] = study.series
    assert (series.state, series.pipeline) == ("unsure", "seam")
    assert {"seam_picture", "measurement_report", "summary_image"} <= {one.kind for one in sent}
    assert {one.state for one in sent} == {"confirmed"}
    arrived = {str(dcmread(path).SOPInstanceUID) for path in (tmp_path / "archive").iterdir()}
    assert arrived == {one.sop_instance_uid for one in sent}
    assert (tmp_path / "phone").read_text()
    assert "Test^Case" not in json.dumps((tmp_path / "phone").read_text())
