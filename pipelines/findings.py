"""The words that readers and reports share: what was found, where, how sure, and by which model.

Everything here is frozen, in SI or stated units, in LPS patient coordinates (mm).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.codes import BI_RADS, BI_RADS_ORDER, LUNG_RADS, LUNG_RADS_ORDER, Code
from pipelines.geometry import Point
from pipelines.reasons import Reason

Status = Literal["finding", "clean", "unsure", "not_read"]
Side = Literal["left", "right", "bilateral", "midline"]


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A sparse voxel mask: `mask[k]` is the mask on slice `slice_index[k]` of the `Volume` the finding was made on.

    `mask` is bool `[k, row, column]` with the volume's full rows and columns; only slices with a marked pixel are held.
    """

    slice_index: tuple[int, ...]
    mask: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.mask.dtype != np.bool_ or self.mask.ndim != 3 or len(self.mask) != len(self.slice_index):
            raise ValueError("a region needs one bool plane for each slice index")

    @staticmethod
    def from_volume(mask: NDArray[np.bool_]) -> Region:
        """The region of a whole mask `[slice, row, column]`."""
        held = np.flatnonzero(mask.any(axis=(1, 2)))
        return Region(tuple(int(k) for k in held), np.ascontiguousarray(mask[held]))


@dataclass(frozen=True, slots=True)
class Outline:
    """A closed polygon on one image: points are (column, row) in pixels, origin at the first pixel's outer corner.

    `marks` are single things within, such as each calcification of a group, in the same coordinates.
    """

    instance_uid: str
    points: tuple[tuple[float, float], ...]
    marks: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Measurement:
    """A coded number with its UCUM unit. `key` is its name in JSON (`volume_ml`, `long_axis_mm`)."""

    key: str
    name: Code
    value: float
    unit: Code


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    `certainty` is a calibrated probability from 0 to 1. `center_mm` is the centre of gravity in patient coordinates.
    `attributes` maps coded questions to coded answers. `key_instance_uid` and `key_frame` (from 1) name the image that
    shows it best. `tracking_uid` stays the same when the same work is done again.

    On projections, which have no patient coordinates, `view` names the image ("R CC") and `center_px` the place on it
    as (column, row), origin at the first pixel's outer corner; `partner_uid` is the tracking UID of the finding on
    another view that is taken for the same.
    """

    kind: Code
    label: str
    certainty: float
    region: Region | Outline
    center_mm: Point | None
    measurements: tuple[Measurement, ...]
    key_instance_uid: str
    tracking_uid: str
    key_frame: int = 1
    side: Side | None = None
    attributes: Mapping[Code, Code] = field(default_factory=dict)
    view: str | None = None
    center_px: tuple[float, float] | None = None
    partner_uid: str | None = None

    def measured(self, key: str) -> float | None:
        """The value of the measurement with this key, or None."""
        return next((m.value for m in self.measurements if m.key == key), None)

    def as_json(self) -> dict[str, object]:
        """As `triage --json` and the ledger hold it: everything but the voxels, which the segmentation holds."""
        return {
            "kind": self.kind.value,
            "label": self.label,
            "certainty": self.certainty,
            "side": self.side,
            "center_mm": None if self.center_mm is None else list(self.center_mm),
            **({} if self.view is None else self._on_projection()),
            **{m.key: m.value for m in self.measurements},
            "key_instance_uid": self.key_instance_uid,
            "key_frame": self.key_frame,
            "tracking_uid": self.tracking_uid,
            "attributes": {question.meaning: answer.meaning for question, answer in self.attributes.items()},
        }

    def _on_projection(self) -> dict[str, object]:
        return {
            "view": self.view,
            "center_px": None if self.center_px is None else list(self.center_px),
            "partner_uid": self.partner_uid,
        }


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which weights gave an answer: name and version of the model, SHA-256 of its weights file."""

    name: str
    version: str
    sha256: str

    def as_json(self) -> dict[str, str]:
        return {"name": self.name, "version": self.version, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The one answer a series (or study) gets.

    `score` is the calibrated probability, 0 to 1, that the study holds what the pipeline looks for; None when it was
    not read. `reason` says why it was not read (and only then). `warnings` qualify an answer that was given. `timings`
    are seconds by stage. `score_by_slice` follows the order of the volume's slices. `findings` come in the order in
    which they are to be looked at, the one of most concern first. `compared_with` is the date of the earlier study
    that their change is told against.
    """

    status: Status
    score: float | None = None
    findings: tuple[Finding, ...] = ()
    reason: Reason | None = None
    warnings: tuple[Reason, ...] = ()
    model: ModelIdentity | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    score_by_slice: tuple[float, ...] = ()
    compared_with: date | None = None

    def __post_init__(self) -> None:
        if (self.status == "not_read") != (self.reason is not None):
            raise ValueError("an outcome has a reason when, and only when, it is not_read")

    @property
    def lung_rads(self) -> Code | None:
        """The study's Lung-RADS suggestion: the highest of its findings', or None where none has one."""
        return self._highest(LUNG_RADS, LUNG_RADS_ORDER)

    @property
    def bi_rads(self) -> Code | None:
        """The study's BI-RADS suggestion: the highest of its findings', or None where none has one."""
        return self._highest(BI_RADS, BI_RADS_ORDER)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The number, from 1, that each finding is told by: those taken for the same on several views share one."""
        number: dict[str, int] = {}
        for finding in self.findings:
            known = number.get(finding.partner_uid or "")
            number[finding.tracking_uid] = max(number.values(), default=0) + 1 if known is None else known
        return tuple(number[finding.tracking_uid] for finding in self.findings)

    def _highest(self, scale: Code, order: Sequence[Code]) -> Code | None:
        suggested = {finding.attributes.get(scale) for finding in self.findings}
        return next((category for category in reversed(order) if category in suggested), None)

    def as_json(self) -> dict[str, object]:
        return {
            "status": self.status,
            "score": self.score,
            "reason": None if self.reason is None else self.reason.as_json(),
            "warnings": [warning.as_json() for warning in self.warnings],
            "findings": [finding.as_json() for finding in self.findings],
            "model": None if self.model is None else self.model.as_json(),
            "seconds": dict(self.timings),
            "score_by_slice": list(self.score_by_slice),
            "compared_with": None if self.compared_with is None else self.compared_with.isoformat(),
        }
