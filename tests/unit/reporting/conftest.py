"""Cases of every kind, and the validators."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pipelines.findings import Outcome
from pipelines.reasons import Reason
from pipelines.volume import load
from reporting.build import build
from reporting.source import ReportCase
from tests.unit.reporting.cases import MODEL, Shape, case_of, finding_of, made_case
from tests.unit.reporting.mammogram_cases import (
    ALONE,
    FOUR,
    GROUPS,
    PAIR,
    Look,
    mammography_case,
    refused_view,
)
from tests.unit.reporting.nodule_cases import NODULES, Chest, nodule_case

Tool = Callable[..., "subprocess.CompletedProcess[str]"]
ASCII = Shape(patient_name="Meier^Anna")


def overlapping_findings() -> ReportCase:
    case = made_case(ASCII, findings=2)
    first, second = case.outcome.findings
    mask = first.region.mask.copy()
    region = type(first.region)(first.region.slice_index, mask)
    return replace(case, outcome=replace(case.outcome, findings=(first, replace(second, region=region))))


MADE = {
    "plain": lambda: made_case(ASCII),
    "several": lambda: made_case(ASCII, findings=3),
    "overlapping": overlapping_findings,
    "tilted": lambda: made_case(replace(ASCII, tilt_degrees=18.5)),
    "tilted_variable": lambda: made_case(replace(ASCII, tilt_degrees=-12.0, variable=True), findings=2),
    "flipped": lambda: made_case(replace(ASCII, flipped=True)),
    "anisotropic": lambda: made_case(replace(ASCII, anisotropic=True)),
    "no_frame_of_reference": lambda: made_case(replace(ASCII, frame_of_reference=False)),
    "multi_frame": lambda: made_case(replace(ASCII, multi_frame=True), findings=2),
    "utf_8": lambda: made_case(Shape()),
    "clean": lambda: made_case(ASCII, "clean"),
    "unsure": lambda: made_case(ASCII, "unsure", warnings=(Reason("contrast.given"),)),
    "nodules": lambda: nodule_case(nodules=NODULES, warnings=(Reason("contrast.given"),)),
    "nodules_prone": lambda: nodule_case(Chest(slices=24, step_mm=10.0, prone=True, feet_first=True), NODULES[:2]),
    "no_nodules": lambda: nodule_case(nodules=(), status="clean"),
    "mammograms": lambda: mammography_case(groups=GROUPS, warnings=(Reason("contrast.given"),)),
    "no_groups": lambda: mammography_case(groups=(), status="clean"),
    "one_view": lambda: mammography_case(("R MLO",), (replace(ALONE, count=120),), look=Look(inverted=True)),
    "partly_refused": lambda: mammography_case(FOUR[:3], PAIR, refused=(refused_view("L MLO"),)),
    "voi_lut": lambda: mammography_case(look=Look(voi_lut=True, snomed_rt=True, mirrored=True)),
    "unsure_mammograms": lambda: mammography_case(groups=(ALONE,), status="unsure"),
}
# Validators compare names byte by byte, so these are not compared with their sources by dcentvfy.
RECODED = {
    "latin_1": lambda: made_case(Shape(character_set="ISO_IR 100")),
    "japanese": lambda: made_case(
        Shape(character_set=("", "ISO 2022 IR 87"), patient_name="Yamada^Tarou=山田^太郎=やまだ^たろう")
    ),
}


build_once = cache(build)


@cache
def made(name: str) -> ReportCase:
    return (MADE | RECODED)[name]()


@pytest.fixture(params=[*MADE, *RECODED])
def any_case(request: pytest.FixtureRequest) -> ReportCase:
    return made(request.param)


@pytest.fixture(params=MADE)
def comparable_case(request: pytest.FixtureRequest) -> ReportCase:
    return made(request.param)


@pytest.fixture(scope="session")
def real_case(triage_data: Path) -> ReportCase:
    """The real tilted head of uneven slices, with a made bleed in it."""
    series = load(sorted((triage_data / "head" / "ge_tilted_variable_spacing").glob("*.dcm")))
    volume = series.volume
    rows, columns = np.mgrid[:512, :512]
    center = volume.plane[14].patient_from_pixel(230, 190)
    mask = np.stack([
        ((plane.patient_from_pixel(rows, columns) - center) ** 2 / np.array([15, 20, 18]) ** 2).sum(axis=-1) < 1
        for plane in volume.plane
    ])  # fmt: skip
    hu = volume.hu.astype(np.int16)
    finding = finding_of(series.headers, volume.plane, volume.frame, hu, mask)
    outcome = Outcome("finding", 0.93, (finding,), None, series.warnings, MODEL, {}, tuple(mask.mean(axis=(1, 2)) * 9))
    return case_of(series.headers, volume.plane, volume.frame, hu, outcome)


@pytest.fixture(scope="session")
def run_tool() -> Tool:
    """Runs a validator; the test is skipped where it is not installed."""

    def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
        return subprocess.run(
            [name, *map(str, arguments)], capture_output=True, text=True, errors="replace", check=False
        )

    return run
