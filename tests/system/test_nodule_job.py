"""A chest CT through the running node: its nodules reach the PACS measured and categorised, and alert where wanted."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from db.connect import open_ledger
from db.schema import alerts as alert_table
from dicom_node.demonstration.node import running_node
from dicom_node.demonstration.webhook import listening
from pipelines import codes
from pipelines.phantom.chest.nodules import NoduleRecipe
from pipelines.phantom.chest.study import ChestStudyOptions, MadeStudy, make_study
from tests.system.conftest import Orthanc, orthanc_binary
from tests.system.test_main_job import Stand, check_objects, service_toml, study_uid

LARGE_MM, SMALL_MM = 18.0, 5.0

pytestmark = [
    pytest.mark.orthanc,
    pytest.mark.dcmtk,
    pytest.mark.skipif(shutil.which("storescu") is None, reason="DCMTK's command line tools are not installed"),
]


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A node that alerts from Lung-RADS 4A on."""
    folder = tmp_path_factory.mktemp("nodule_job")
    (folder / "orthanc").mkdir()
    orthanc = Orthanc(orthanc_binary(), folder / "orthanc")
    orthanc.start()
    try:
        with listening() as phone:
            settings = service_toml(folder, orthanc, phone) + 'lung_rads_from = "4A"\n'
            with running_node(folder, settings) as node:
                ledger = open_ledger(node.settings.node.database_url)
                yield Stand(node, orthanc, phone, ledger, folder)
                ledger.close()
    finally:
        orthanc.stop()


def chest(stand: Stand, name: str, diameter_mm: float) -> MadeStudy:
    recipe = NoduleRecipe("solid", "intrapulmonary", diameter_mm)
    options = ChestStudyOptions(seed=12, nodules=0, recipes=(recipe,), slice_mm=1.5, pixels=384, kernel="soft")
    made = make_study(stand.folder / name, options)
    stand.push(made.files)
    return made


@pytest.fixture(scope="module")
def large(stand: Stand) -> MadeStudy:
    return chest(stand, "large", LARGE_MM)


@pytest.fixture(scope="module")
def small(stand: Stand) -> MadeStudy:
    return chest(stand, "small", SMALL_MM)


def outcome_of(stand: Stand, made: MadeStudy) -> dict[str, Any]:
    answer = stand.answer(made)
    assert answer.pipeline == "nodule"
    assert answer.state == "finding", answer.reason
    assert answer.outcome is not None
    return dict(answer.outcome)


def nearest(outcome: dict[str, Any], made: MadeStudy) -> tuple[float, dict[str, Any], dict[str, Any]]:
    """How far the nearest finding lies from the painted nodule, that finding, and the truth."""
    nodules: Any = made.truth["nodules"]
    [truth] = nodules
    apart = [float(np.linalg.norm(np.subtract(one["center_mm"], truth["center_mm"]))) for one in outcome["findings"]]
    return min(apart), outcome["findings"][int(np.argmin(apart))], truth


def test_the_painted_nodule_is_found_where_it_is_and_as_large_as_it_is(
    stand: Stand, large: MadeStudy, small: MadeStudy
) -> None:
    for made in (large, small):
        apart, finding, truth = nearest(outcome_of(stand, made), made)
        assert apart < 2.5
        assert finding["side"] == truth["side"]
        assert finding["volume_ml"] * 1000 == pytest.approx(truth["volume_mm3"], rel=0.5)
        assert finding["attributes"][codes.COMPOSITION.meaning] == codes.SOLID.meaning


def test_only_the_category_that_was_asked_for_alerts(stand: Stand, large: MadeStudy, small: MadeStudy) -> None:
    _, finding, _ = nearest(outcome_of(stand, large), large)
    assert finding["attributes"][codes.LUNG_RADS.meaning] == codes.LUNG_RADS_4B.meaning
    _, finding, _ = nearest(outcome_of(stand, small), small)
    assert finding["attributes"][codes.LUNG_RADS.meaning] == codes.LUNG_RADS_2.meaning
    told = {study_uid(made.files): alerts_of(stand, made) for made in (large, small)}
    assert told[study_uid(large.files)] == 1
    highest = {str(one["attributes"][codes.LUNG_RADS.meaning])[-2:] for one in outcome_of(stand, small)["findings"]}
    assert told[study_uid(small.files)] == int(not highest.isdisjoint({"4A", "4B", "4X"}))


def alerts_of(stand: Stand, made: MadeStudy) -> int:
    with stand.ledger.read() as connection:
        of_study = alert_table.c.study_instance_uid == study_uid(made.files)
        return len(connection.execute(alert_table.select().where(of_study)).all())


def test_the_objects_of_a_chest_are_valid(stand: Stand, large: MadeStudy, small: MadeStudy) -> None:
    for made in (large, small):
        findings = outcome_of(stand, made)["findings"]
        check_objects(stand, made.files)
        results = [pydicom.dcmread(path) for path in stand.results(study_uid(made.files))]
        assert Counter(one.Modality for one in results) == Counter(["SEG", "SR", "KO", "OT"])
        [segmentation] = [one for one in results if one.Modality == "SEG"]
        assert len(segmentation.SegmentSequence) == len(findings)
        tracked = {str(segment.TrackingUID) for segment in segmentation.SegmentSequence}
        assert tracked == {one["tracking_uid"] for one in findings}


def test_the_real_nodule_comes_first(stand: Stand, triage_data: Path) -> None:
    """The nodule of LIDC-IDRI-0314, where its readers marked it; what ships has learnt from its patch, not its scan."""
    slab = sorted((triage_data / "chest" / "lidc_slabs" / "LIDC-IDRI-0314_slab_dicom").iterdir())
    stand.push_as_it_is(slab)
    [series] = stand.settled(study_uid(slab)).series
    assert series.state == "finding", series.reason
    assert series.outcome is not None
    first = series.outcome["findings"][0]
    assert np.linalg.norm(np.subtract(first["center_mm"], (-57.44, 131.23, -520.36))) < 3
    check_objects(stand, slab)
