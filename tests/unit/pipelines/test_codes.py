"""The table of codes: SNOMED CT's check digits hold, and what pydicom knows it calls the same."""

from __future__ import annotations

import pytest
from pydicom.sr import _concepts_dict

from pipelines import codes
from pipelines.codes import Code

TABLE = {name: code for name, code in vars(codes).items() if isinstance(code, Code)}
# The standard's templates, CID 4014 and CID 7460 print these otherwise than the dictionary.
OTHERWISE = {
    "FINDING_CATEGORY": "findings category type",
    "MILLIMETER": "mm",
    "DEGREE": "degree",
    "MEDIO_LATERAL": "medial-lateral",
    "CAUDO_CRANIAL": "caudo-cranial",
    # CID 6027 has the words of the BI-RADS Atlas; the dictionary has SNOMED CT's.
    **dict.fromkeys(("BI_RADS_0", "BI_RADS_1", "BI_RADS_2", "BI_RADS_3", "BI_RADS_5"), "mammography assessment"),
}
PERMUTATION = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def product(a: int, b: int) -> int:
    """In the dihedral group D5 (Verhoeff 1969), where numbers from 5 on are reflections."""
    if a < 5:
        return (a + b) % 5 if b < 5 else 5 + (a + b - 5) % 5
    return 5 + (a - 5 - b) % 5 if b < 5 else (a - b) % 5


def verhoeff_holds(value: str) -> bool:
    check = 0
    for place, digit in enumerate(reversed(value)):
        permuted = int(digit)
        for _ in range(place % 8):
            permuted = PERMUTATION[permuted]
        check = product(check, permuted)
    return check == 0


def known_meanings(code: Code) -> set[str]:
    return {
        meaning.replace("\u200b", "").lower()
        for values in _concepts_dict.concepts.get(code.scheme, {}).values()
        for value, (meaning, _) in values.items()
        if value == code.value
    }


@pytest.mark.parametrize("value", ["83329005", "262052002", "274110009", "396533000", "50960006"])
def test_impossible_concepts_are_recognised(value: str):
    assert not verhoeff_holds(value)


@pytest.mark.parametrize("name", [name for name, code in TABLE.items() if code.scheme == "SCT"])
def test_snomed_concepts_have_a_valid_check_digit(name: str):
    assert verhoeff_holds(TABLE[name].value)


@pytest.mark.parametrize("name", TABLE)
def test_codes_fit_their_representation(name: str):
    value, scheme, meaning = TABLE[name]
    assert 0 < len(value) <= 16
    assert 0 < len(scheme) <= 16
    assert 0 < len(meaning) <= 64


@pytest.mark.parametrize("name", TABLE)
def test_meanings_are_those_that_pydicom_knows(name: str):
    """SNOMED CT's own names end with a kind in brackets, which the standard does not print."""
    meanings = known_meanings(TABLE[name])
    known = meanings | {meaning.split(" (")[0] for meaning in meanings}
    assert not known or OTHERWISE.get(name, TABLE[name].meaning.lower()) in known


def test_no_code_has_two_names():
    seen = [(code.value, code.scheme) for code in TABLE.values()]
    assert len(seen) == len(set(seen))
