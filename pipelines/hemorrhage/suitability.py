"""Whether a volume is a head to read, and what the reader of the answer should know about it.

What is refused is what would make an answer meaningless; everything else is read with a warning.
"""

from __future__ import annotations

from pipelines.reasons import Reason, refuse
from pipelines.suitability import has_contrast
from pipelines.volume import LoadedSeries

LEAST_INTRACRANIAL_ML = 20.0
PARTIAL_ML = 600.0


def check_content(inside_ml: float) -> None:
    """Refuse what shows next to nothing of a brain. `inside_ml` is the volume inside the skull."""
    if inside_ml < LEAST_INTRACRANIAL_ML:
        raise refuse("body_part.unexpected", detail=f"only {inside_ml:.0f} mL of the inside of a skull were found")


def warnings_about(series: LoadedSeries, inside_ml: float) -> tuple[Reason, ...]:
    """What qualifies an answer on this series: contrast, and a head that is only partly there."""
    warnings = []
    if has_contrast(series.headers[0]):
        warnings.append(Reason("contrast.given"))
    if inside_ml < PARTIAL_ML:
        warnings.append(Reason("body_part.partial", {"detail": f"{inside_ml:.0f} mL inside the skull"}))
    return tuple(warnings)
