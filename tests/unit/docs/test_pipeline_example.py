"""The pipeline that the page for data scientists shows is run as it stands there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import SegmentationStorage

import pipelines
from dicom_node import settings
from dicom_node.dispatch.run import ReadRequest, read_series
from dicom_node.identity import equipment
from dicom_node.route.explain import explain
from pipelines.catalogue import catalogue
from tests.conftest import REPOSITORY, MovableClock
from tests.unit.db.queued import slices
from tests.unit.dicom_node.made import encoded

PAGE = (REPOSITORY / "docs" / "data_scientist.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@pytest.fixture(autouse=True)
def metal_pipeline(tmp_path: Path) -> Iterator[None]:
    room = tmp_path / "room"
    room.mkdir()
    (room / "metal.py").write_text(block("python"), encoding="utf-8")
    pipelines.__path__.append(str(room))
    catalogue.cache_clear()
    yield
    pipelines.__path__.remove(str(room))
    catalogue.cache_clear()
    sys.modules.pop("pipelines.metal", None)


def write(folder: Path, made: list[Dataset]) -> tuple[Path, ...]:
    folder.mkdir()
    paths = tuple(folder / f"{number}.dcm" for number in range(len(made)))
    for path, one in zip(paths, made, strict=True):
        path.write_bytes(encoded(one))
    return paths


def with_metal() -> list[Dataset]:
    made = slices(1)
    hu = np.frombuffer(made[1].PixelData, np.int16).reshape(64, 64).copy()
    hu[30:34, 20:24] = 3000
    made[1].PixelData = hu.tobytes()
    return made


@pytest.fixture
def request_of(tmp_path: Path, clock: MovableClock) -> ReadRequest:
    files = write(tmp_path / "series", slices(1))
    return ReadRequest("metal", "{}", files, "ab" * 32, "cd" * 8, clock(), equipment(settings.Settings()))


def test_it_finds_metal_and_its_results_pass_the_checks(request_of: ReadRequest, tmp_path: Path) -> None:
    answer = read_series(replace(request_of, files=write(tmp_path / "metal", with_metal())))
    assert (answer.status, answer.outcome["reason"]) == ("finding", None)
    findings = answer.outcome["findings"]
    assert isinstance(findings, list)
    (finding,) = findings
    assert finding["volume_ml"] == pytest.approx(16 * 9 * 5 / 1000)
    (segmentation,) = (one for one in answer.objects if one.sop_class_uid == SegmentationStorage)
    assert dcmread(BytesIO(segmentation.content)).pixel_array.sum() == 16


def test_it_finds_none_where_there_is_none(request_of: ReadRequest) -> None:
    assert read_series(request_of).status == "clean"


def test_its_settings_are_its_own(request_of: ReadRequest) -> None:
    assert read_series(replace(request_of, settings_json='{"from_hu": 500}')).status == "finding"
    with pytest.raises(ValueError, match="from_hu"):
        settings.parse("[pipelines.metal]\nfrom_hu = 'much'")


def test_one_line_sends_series_to_it(request_of: ReadRequest) -> None:
    line = block("toml")
    assert line.count("\n") == 1
    ((series,),) = [study.series for study in explain(request_of.files, settings.parse(line)).studies]
    assert (series.pipeline, series.rule, series.reason) == ("metal", "metal", None)
