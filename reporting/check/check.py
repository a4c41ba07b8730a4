"""The last look before sending: whatever breaks a rule here would be refused, or worse believed, by the receiver.

The rules are those of the standard that a validator at the receiver would hold us to, and one that it cannot: that the
objects agree with the case they were made of. External validators are run in tests; these run on every result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydicom import Dataset

from pipelines.reasons import Reason
from reporting.check.attributes import attribute_faults
from reporting.check.coding import coding_faults
from reporting.check.content_tree import content_tree_faults
from reporting.check.mammography_cad import mammography_cad_faults
from reporting.check.presentation import presentation_faults
from reporting.check.references import reference_faults, shared_faults
from reporting.check.segments import segment_faults
from reporting.reasons import ReportError
from reporting.source import ReportCase


def check(case: ReportCase, datasets: Mapping[str, Sequence[Dataset]]) -> None:
    """Raise `ReportError` (`report.not_fit_to_send`) for the first rule that one of the objects of `case` breaks."""
    for kind, detail in faults(case, datasets):
        raise ReportError(Reason("report.not_fit_to_send", {"kind": kind, "detail": detail}))


def faults(case: ReportCase, datasets: Mapping[str, Sequence[Dataset]]) -> Iterator[tuple[str, str]]:
    """Every broken rule, as the object's kind and what is wrong with it. Details hold no patient data."""
    for kind, of_kind in datasets.items():
        for dataset in of_kind:
            yield from ((kind, detail) for detail in _own_faults(case, dataset))
    yield from reference_faults(case, datasets)


def _own_faults(case: ReportCase, dataset: Dataset) -> Iterator[str]:
    """What is wrong with one object, whatever the others are."""
    yield from attribute_faults(dataset)
    yield from coding_faults(dataset)
    yield from content_tree_faults(dataset)
    yield from mammography_cad_faults(case, dataset)
    yield from presentation_faults(case, dataset)
    yield from segment_faults(case, dataset)
    yield from shared_faults(case, dataset)
