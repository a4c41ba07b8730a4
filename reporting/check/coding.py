"""Codes: whole, and with the meaning that the project's table gives them."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset

from pipelines import codes
from pipelines.codes import PRIVATE_SCHEME, Code
from reporting.document import coded_items

MEANINGS = {(code.value, code.scheme): code.meaning for code in vars(codes).values() if isinstance(code, Code)}


def coding_faults(dataset: Dataset) -> Iterator[str]:
    """Codes that are incomplete, that mean something else than the table says, or are private and not declared."""
    private = False
    for item in coded_items(dataset):
        value, scheme, meaning = item.get("CodeValue"), item.CodingSchemeDesignator, item.CodeMeaning
        if not value or not scheme or not meaning:
            yield "a code lacks value, scheme or meaning"
            continue
        expected = MEANINGS.get((value, scheme), None if scheme == PRIVATE_SCHEME else meaning)
        if meaning != expected:
            yield f"the code {value} of {scheme} has the wrong meaning"
        private = private or scheme == PRIVATE_SCHEME
    declared = {item.CodingSchemeDesignator for item in dataset.get("CodingSchemeIdentificationSequence") or ()}
    if private and PRIVATE_SCHEME not in declared:
        yield "private codes are used whose scheme is not identified"
