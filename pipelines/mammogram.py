"""Mammograms: the views of one study, each brought to one way of looking at it.

In all of them denser tissue is brighter, whatever the file's photometric interpretation; rows and columns stay as they
are stored, so that an index into `pixels` is an index into the image of that instance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pipelines.codes import Code
from pipelines.reasons import Reason

Laterality = Literal["R", "L"]
Projection = Literal["CC", "MLO", "ML", "LM", "LMO", "XCCL", "XCCM", "FB"]
Border = Literal["left", "right"]
Scale = Literal["presented", "attenuation"]
SpacingOrigin = Literal["magnification factor", "distances", "calibration", "detector", "told", "assumed"]


@dataclass(frozen=True, slots=True)
class Spacing:
    """Side of a square pixel in mm, in the plane of the detector and in the body; and how the latter was known.

    `detector` as origin means that the image says nothing of magnification: the body is taken to lie on the detector.
    `assumed` means that the image has no pixel spacing, and that its kind of detector has.
    """

    detector_mm: float
    object_mm: float
    origin: SpacingOrigin


@dataclass(frozen=True, slots=True, eq=False)
class Mammogram:
    """One view.

    `pixels` is float32 `[row, column]` from 0 to 1, dense bright: on the scale `presented` what a display would show
    (VOI LUT or window applied), on the scale `attenuation` the logarithm of what the detector got, negated and brought
    to that range. `outside` bool `[row, column]` marks padding and collimation. `chest_wall` is the border of the
    stored image at which the chest wall lies. `modifiers` are codes of CID 4015 (magnification, spot compression,
    implant displaced, ...). `header` is the data set without its pixel data. `warnings` qualify this view alone.
    """

    instance_uid: str
    laterality: Laterality
    projection: Projection
    modifiers: frozenset[Code]
    pixels: NDArray[np.float32]
    outside: NDArray[np.bool_]
    scale: Scale
    spacing: Spacing
    chest_wall: Border
    has_implant: bool
    header: Dataset
    warnings: tuple[Reason, ...] = ()

    @property
    def name(self) -> str:
        """As readers say it: `R CC`."""
        return f"{self.laterality} {self.projection}"


@dataclass(frozen=True, slots=True)
class RefusedView:
    """An image of the study that is not read, and why; the others are.

    `header` is its data set without pixel data, where it could be parsed: by it reports refer to the image and name it.
    """

    instance_uid: str
    reason: Reason
    header: Dataset | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MammogramStudy:
    """The views of one study that can be read, in hanging order (R CC, L CC, R MLO, L MLO, then the others by name)."""

    views: tuple[Mammogram, ...]
    refused: tuple[RefusedView, ...] = ()
    warnings: tuple[Reason, ...] = ()

    def view_of(self, instance_uid: str) -> Mammogram:
        """The view that is this instance. `LookupError` where there is none."""
        for view in self.views:
            if view.instance_uid == instance_uid:
                return view
        raise LookupError(instance_uid)
