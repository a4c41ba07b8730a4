"""The routes of a node without configuration, against what scanners write."""

from __future__ import annotations

import pytest

from dicom_node.route.policy import evaluate, fired
from dicom_node.settings import Settings


@pytest.mark.parametrize(
    ("attributes", "rule"),
    [
        ({"BodyPartExamined": "HEAD"}, "head_bleed"),
        ({"BodyPartExamined": "Brain"}, "head_bleed"),
        ({"BodyPartExamined": "SKULL", "SeriesDescription": "Head 5.0 H31s"}, "head_bleed"),
        ({"BodyPartExamined": "HEAD", "StudyDescription": "CTA HEAD AND NECK"}, "head_bleed"),
        ({"BodyPartExamined": "HEAD", "SeriesDescription": "CTA 0.6"}, None),
        ({"BodyPartExamined": "HEADNECK"}, None),
        ({"BodyPartExamined": "NECK"}, None),
        ({"BodyPartExamined": "ABDOMEN", "StudyDescription": "HEAD"}, None),
        ({"SeriesDescription": "Routine Brain", "StudyDescription": "HEAD AND NECK"}, "head_bleed_by_description"),
        ({"SeriesDescription": "Schädel nativ 5.0"}, "head_bleed_by_description"),
        ({"SeriesDescription": "Crâne sans injection"}, "head_bleed_by_description"),
        ({"SeriesDescription": "头部平扫"}, "head_bleed_by_description"),
        ({"SeriesDescription": "Angio head"}, None),
        ({"SeriesDescription": "Head & Neck"}, None),
        ({"StudyDescription": "1A TRAUMA/PLAIN HEAD DM"}, "head_bleed_unless_elsewhere"),
        ({"StudyDescription": "CT CABEZA"}, "head_bleed_unless_elsewhere"),
        ({}, "head_bleed_unless_elsewhere"),
        ({"StudyDescription": "ANGIO"}, None),
        ({"ProtocolName": "Thorax_Routine"}, None),
        ({"BodyPartExamined": "CHEST"}, "chest_nodule"),
        ({"StudyDescription": "CHEST", "SeriesDescription": "HELICAL CHEST"}, "chest_nodule_by_description"),
        ({"Modality": "MG"}, "mammography"),
        ({"Modality": "MR", "BodyPartExamined": "HEAD"}, None),
    ],
)
def test_default_routes(attributes: dict[str, str], rule: str | None) -> None:
    asked = evaluate(Settings().routes, {k: (v,) for k, v in {"Modality": "CT", **attributes}.items()})
    found = fired(asked)
    assert (found and found.rule) == rule
