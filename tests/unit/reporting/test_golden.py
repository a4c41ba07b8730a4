"""Every object as DICOM JSON, attribute by attribute: a change shows here, and is read before it is accepted."""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from pipelines.reasons import Reason
from reporting.build import build
from tests.unit.reporting.cases import Shape, made_case
from tests.unit.reporting.mammogram_cases import FOUR, GROUPS, PAIR, mammography_case, refused_view
from tests.unit.reporting.nodule_cases import NODULES, nodule_case

GOLDEN = Path(__file__).parents[2] / "golden" / "reporting"
CASES = {
    "finding": lambda: made_case(Shape(tilt_degrees=18.5, variable=True), findings=2),
    "clean": lambda: made_case(status="clean"),
    "unsure": lambda: made_case(status="unsure", warnings=(Reason("contrast.given"),)),
    "nodules": lambda: nodule_case(nodules=NODULES[:3], warnings=(Reason("contrast.given"),)),
    "no_nodules": lambda: nodule_case(nodules=(), status="clean"),
    "mammograms": lambda: mammography_case(groups=(*PAIR, GROUPS[2])),
    "no_groups": lambda: mammography_case(FOUR[:3], (), status="clean", refused=(refused_view("L MLO"),)),
}


def as_json(dataset: Dataset) -> str:
    """The data set with its file meta information; pixels by their hash, a drawn picture's by their length alone."""
    pixels = dataset.get("PixelData")
    if pixels is not None:
        drawn = dataset.Modality == "OT"
        dataset.PixelData = b"%d " % len(pixels) if drawn else hashlib.sha256(pixels).hexdigest().encode()
    document = {"meta": dataset.file_meta.to_json_dict(), "dataset": dataset.to_json_dict()}
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


@pytest.mark.parametrize("name", CASES)
def test_objects_are_as_they_were(name: str, request: pytest.FixtureRequest):
    numbered: dict[str, int] = {}
    found = {}
    for built in build(CASES[name]()):
        number = numbered[built.kind] = numbered.get(built.kind, 0) + 1
        file = f"{name}.{built.kind}.json" if number == 1 else f"{name}.{built.kind}.{number}.json"
        found[file] = as_json(dcmread(BytesIO(built.content)))
    if request.config.getoption("--regen"):
        GOLDEN.mkdir(parents=True, exist_ok=True)
        for stale in GOLDEN.glob(f"{name}.*.json"):
            stale.unlink()
        for file, text in found.items():
            (GOLDEN / file).write_text(text, encoding="utf-8")
    expected = {path.name: path.read_text(encoding="utf-8") for path in GOLDEN.glob(f"{name}.*.json")}
    assert found == expected
