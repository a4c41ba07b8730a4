"""The routes of a node whose service.toml names none. Patterns are shell globs; case and accents do not count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEAD = [
    "*HEAD*", "*BRAIN*", "*SKULL*", "*CRAN*", "*CEREB*", "*NEURO*", "*STROKE*", "*ENCEPH*", "*ENCEF*", "*CCT*",
    "*KOPF*", "*SCHADEL*", "*SCHAEDEL*", "*HIRN*", "*TETE*", "*CABEZA*", "*CABECA*", "*HOOFD*", "*HERSEN*",
    "*HJERNE*", "*HJARN*", "*GLOWA*", "*GŁOWA*", "*ГОЛОВ*", "*МОЗГ*", "*头*", "*頭*", "*颅*", "*脑*", "*脳*", "*뇌*",
]  # fmt: skip
"""What says that a head is shown."""
VESSELS = ["*ANGIO*", "*CTA*", "*CTV*", "*PERF*", "*CTP*"]
"""What says that contrast fills the vessels, which look like blood then."""
CHEST = ["*CHEST*", "*THORA*", "*LUNG*", "*PULMO*", "*TORAX*", "*胸*", "*肺*"]
ELSEWHERE = [
    *VESSELS, *CHEST, "*NECK*", "*HALS*", "*CUELLO*", "*CAROTI*", "*SPINE*", "*SPINAL*", "*CERVICAL*", "*LUMB*",
    "*ABD*", "*PELVI*", "*BECKEN*", "*LIVER*", "*KIDNEY*", "*RENAL*", "*CARDIA*", "*HEART*", "*CORONARY*", "*AORT*",
    "*SHOULDER*", "*ELBOW*", "*WRIST*", "*HAND*", "*FEMUR*", "*KNEE*", "*ANKLE*", "*FOOT*", "*EXTREM*", "*颈*", "*腹*",
]  # fmt: skip
"""What says that something else than a plain head is shown."""

DEFAULT_ROUTES: Mapping[str, Mapping[str, Any]] = {
    "head_bleed": {
        "pipeline": "hemorrhage",
        "priority": "stat",
        "when": {
            "Modality": "CT",
            "BodyPartExamined": {"glob": HEAD, "not_glob": ["*NECK*"]},
            "SeriesDescription": {"not_glob": VESSELS},
        },
    },
    "head_bleed_by_description": {
        "pipeline": "hemorrhage",
        "priority": "stat",
        "when": {
            "Modality": "CT",
            "BodyPartExamined": {"absent": True},
            "SeriesDescription": {"glob": HEAD, "not_glob": ELSEWHERE},
        },
    },
    "chest_nodule": {
        "pipeline": "nodule",
        "priority": "routine",
        "when": {"Modality": "CT", "BodyPartExamined": {"glob": CHEST}},
    },
    "chest_nodule_by_description": {
        "pipeline": "nodule",
        "priority": "routine",
        "when": {"Modality": "CT", "BodyPartExamined": {"absent": True}, "StudyDescription": {"glob": CHEST}},
    },
    "mammography": {"pipeline": "calcification", "priority": "routine", "when": {"Modality": "MG"}},
    # A CT that says nowhere what it shows is looked at: missing a bleed is worse than refusing a knee by its content.
    "head_bleed_unless_elsewhere": {
        "pipeline": "hemorrhage",
        "priority": "stat",
        "when": {
            "Modality": "CT",
            "BodyPartExamined": {"absent": True},
            "SeriesDescription": {"not_glob": ELSEWHERE},
            "ProtocolName": {"not_glob": ELSEWHERE},
            "StudyDescription": {"not_glob": ELSEWHERE},
        },
    },
}
