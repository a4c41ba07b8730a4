from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.route.explain import explain
from dicom_node.settings import Settings, parse
from tests.unit.dicom_node.made import encoded, stack


def told(folder: Path) -> list[list[tuple[int | None, str | None, str]]]:
    """By study: number of each series, the rule that fired, and `read` or the code of the reason."""
    return [
        [(one.facts.series_number, one.rule, one.reason.code if one.reason else "read") for one in study.series]
        for study in explain([folder], Settings()).studies
    ]


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("ge_tilted_variable_spacing", [(2, "head_bleed", "read")]),
        (
            "philips_phantom_study",
            [
                (100, "head_bleed_unless_elsewhere", "selection.localizer"),
                (201, "head_bleed", "read"),
                (401, "head_bleed_unless_elsewhere", "selection.secondary_capture"),
            ],
        ),
        (
            "philips_phantom_tilted",
            [
                (100, "head_bleed_unless_elsewhere", "selection.localizer"),
                (201, "head_bleed", "selection.earlier"),
                (301, "head_bleed", "read"),
            ],
        ),
        ("enhanced_ct_perfusion_head", [(3, "head_bleed_unless_elsewhere", "selection.parametric_map")]),
    ],
)
def test_real_studies(triage_data: Path, folder: str, expected: list[tuple[int, str, str]]) -> None:
    assert told(triage_data / "head" / folder) == [expected]


def test_head_without_a_body_part_is_found(triage_data: Path, tmp_path: Path) -> None:
    for path in (triage_data / "head/ge_tilted_variable_spacing").glob("*.dcm"):
        made = dcmread(path)
        del made.BodyPartExamined, made.StudyDescription
        made.save_as(tmp_path / path.name)
    assert told(tmp_path) == [[(2, "head_bleed_unless_elsewhere", "read")]]


def test_real_odd_files_all_get_an_answer(triage_data: Path) -> None:
    folder = triage_data / "odd"
    explanation = explain([folder], Settings())
    in_series = [path for study in explanation.studies for one in study.series for path in one.paths]
    unreadable = [file.path for file in explanation.files]
    assert sorted(in_series + unreadable) == sorted(path for path in folder.rglob("*") if path.is_file())
    read = [one for study in explanation.studies for one in study.series if one.reason is None]
    assert {one.facts.modality for one in read} == {"CT", "MG"}
    assert {one.facts.kind for one in read} == {"image"}


def test_which_rule_fires_and_why_the_ones_before_do_not(tmp_path: Path) -> None:
    for number, made in enumerate(stack(1, slices=4)):
        (tmp_path / f"{number}.dcm").write_bytes(encoded(made))
    (tmp_path / "notes.txt").write_text("no DICOM")
    settings = parse("""
        [routes.thin]
        pipeline = "hemorrhage"
        when = { SliceThickness = { range = [0, 2] } }
        [routes.any]
        pipeline = "hemorrhage"
        priority = "urgent"
        when = { Modality = "CT" }
    """)
    explanation = explain([tmp_path, tmp_path / "missing.dcm"], settings)
    ((one,),) = [study.series for study in explanation.studies]
    assert (one.rule, one.pipeline, one.priority, one.reason, len(one.paths)) == (
        "any",
        "hemorrhage",
        "urgent",
        None,
        4,
    )
    (failure,) = one.rules[0].failures
    assert (failure.keyword, failure.condition, failure.found) == ("SliceThickness", "range 0, 2", "5")
    assert [(file.path.name, file.reason.code) for file in explanation.files] == [
        ("notes.txt", "input.not_dicom"),
        ("missing.dcm", "input.file_unreadable"),
    ]
