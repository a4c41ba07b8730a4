"""Earlier studies found in, and fetched from, a real Orthanc."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.dispatch.priors import FoundPrior, PriorSearch, earlier_study
from dicom_node.settings import PriorArchive
from pipelines import codes
from pipelines.volume import load
from reporting.build import build
from reporting.source import ReportCase
from tests.system.conftest import Orthanc, free_port, orthanc_binary
from tests.unit.reporting.cases import write_sources
from tests.unit.reporting.nodule_cases import NODULES, Chest, nodule_case

MOVE_PORT = free_port()


@dataclass
class Pacs:
    """An Orthanc that holds an earlier study with our results, and a file of a later one."""

    orthanc: Orthanc
    case: ReportCase
    later: Path
    folder: Path

    def search(self, **keys: Any) -> FoundPrior:
        table = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": self.orthanc.port, "timeout_s": 10, **keys}
        archives = (("pacs", PriorArchive.model_validate(table)),)
        search = PriorSearch((), archives, "TRIAGE", self.folder)
        with earlier_study(search, [self.later], codes.NODULE) as found:
            self.loaded = None if found.prior is None else load(found.prior.paths).volume.hu
        assert list(self.folder.iterdir()) == []
        return found


def started(folder: Path, **configuration: Any) -> Iterator[Pacs]:
    orthanc = Orthanc(orthanc_binary(), folder, **configuration)
    orthanc.start()
    case = nodule_case(Chest(slices=20, size=48, step_mm=12.0), NODULES[:2])
    files = write_sources(case, folder / "earlier")
    for content in [*(path.read_bytes() for path in files), *(built.content for built in build(case))]:
        request = urllib.request.Request(f"{orthanc.url}/instances", data=content, method="POST")
        urllib.request.urlopen(request, timeout=10).close()
    later = dcmread(files[0])
    later.StudyInstanceUID, later.SeriesInstanceUID, later.SOPInstanceUID = "2.25.81", "2.25.82", "2.25.83"
    later.StudyDate = "20271121"
    later.save_as(folder / "later.dcm")
    yield Pacs(orthanc, case, folder / "later.dcm", folder / "fetched")
    orthanc.stop()


@pytest.fixture(scope="module")
def gets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    yield from started(tmp_path_factory.mktemp("gets"), DicomAlwaysAllowGet=True)


@pytest.fixture(scope="module")
def moves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    yield from started(
        tmp_path_factory.mktemp("moves"),
        DicomAlwaysAllowGet=False,
        DicomAlwaysAllowMove=True,
        DicomModalities={"priors": ["TRIAGE_PRIORS", "127.0.0.1", MOVE_PORT]},
    )


def check(pacs: Pacs, found: FoundPrior) -> None:
    assert found.warnings == ()
    assert found.prior is not None
    assert found.source == "pacs"
    assert found.prior.series_instance_uid == pacs.case.headers[0].SeriesInstanceUID
    assert f"{found.prior.study_date:%Y%m%d}" == pacs.case.headers[0].StudyDate
    assert (pacs.loaded == np.maximum(pacs.case.pixels, -1024)).all()
    assert len(found.prior.findings) == 2
    for told, finding in zip(found.prior.findings, pacs.case.outcome.findings, strict=True):
        assert told["tracking_uid"] == finding.tracking_uid
        assert told["center_mm"] == pytest.approx(finding.center_mm, abs=6)
        assert told["volume_ml"] == pytest.approx(finding.measured("volume_ml"), abs=1e-3)


@pytest.mark.orthanc
def test_the_earlier_study_is_fetched_by_get(gets: Pacs) -> None:
    check(gets, gets.search())


@pytest.mark.orthanc
def test_where_get_is_refused_it_is_told_and_move_fetches(moves: Pacs) -> None:
    assert [one.code for one in moves.search().warnings] == ["prior.unreachable"]
    check(moves, moves.search(move_port=MOVE_PORT))


@pytest.mark.orthanc
def test_limits_hold_and_are_told(gets: Pacs, monkeypatch: pytest.MonkeyPatch) -> None:
    found = gets.search(time_limit_s=0.001)
    assert (found.prior, [one.code for one in found.warnings]) == (None, ["prior.time_limit"])
    monkeypatch.setattr(PriorArchive, "maximum_bytes", 60_000)
    found = gets.search()
    assert (found.prior, [one.code for one in found.warnings]) == (None, ["prior.too_large"])


@pytest.mark.orthanc
def test_another_patient_with_the_same_number_is_left_alone(gets: Pacs, tmp_path: Path) -> None:
    other = dcmread(gets.later)
    other.IssuerOfPatientID = "another hospital"
    other.save_as(tmp_path / "other.dcm")
    found = Pacs(gets.orthanc, gets.case, tmp_path / "other.dcm", gets.folder).search()
    assert (found.prior, found.warnings) == (None, ())


def test_a_pacs_that_is_off_is_a_warning(gets: Pacs) -> None:
    found = gets.search(port=free_port())
    assert (found.prior, [one.code for one in found.warnings]) == (None, ["prior.unreachable"])
