"""Where in the breast a place on a view lies: depth, half, quadrant, and distance from the nipple.

The chest-wall normal points from the chest wall to the nipple. On CC it runs along the rows. On MLO it stands square on
the edge of the pectoral muscle, as the posterior nipple line does (Bassett LW et al., Radiology 1993, 188:803-806);
where the muscle is not seen, along the rows. Depth is measured along that normal: thirds of the way from the nipple to
the chest wall (CC) or to the muscle's edge (MLO). Halves lie to either side of the line through the nipple along the
normal: outer and inner on CC, upper and lower on MLO, ML and LM. Which is which is told by Patient Orientation (PS3.3,
C.7.6.1.1.1); without it, outer on CC and upper on the others is above, as views are hung.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines import codes
from pipelines.calcification.breast import Breast
from pipelines.codes import Code
from pipelines.geometry import Floats
from pipelines.mammogram import Mammogram

FROM_ABOVE = frozenset({"CC", "XCCL", "XCCM", "FB"})
"""Views on which outer and inner halves are seen; on the others it is upper and lower ones."""
LEAST_MUSCLE_MM = 15.0
"""Height of muscle from which on its edge has a direction."""
TRIMMED = 4
"""How often the line is drawn anew without what lies far from it."""
STEEPEST = 70.0
"""Degrees: an edge of muscle that leans more than this from the columns is none."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The breast's own coordinates on one view, in mm in the body.

    `nipple_px` is (column, row), the foremost place of the breast where no nipple was found (`has_nipple`). `normal`
    is the unit vector (along columns, along rows) from the chest wall to the nipple. `reach_mm` is the length of the
    way from the nipple back to the chest wall or muscle, `area_mm2` that of the breast with the muscle.
    """

    nipple_px: tuple[float, float]
    has_nipple: bool
    normal: tuple[float, float]
    reach_mm: float
    area_mm2: float
    spacing_mm: float

    def behind_nipple_mm(self, places_px: ArrayLike) -> Floats:
        """How far places [n, 2] lie behind the nipple along the chest-wall normal."""
        behind: Floats = -self._from_nipple(places_px) @ np.array(self.normal)
        return behind

    def beside_nipple_mm(self, places_px: ArrayLike) -> Floats:
        """How far places [n, 2] lie from the line through the nipple; below it (towards higher rows) is positive."""
        across = np.array([-self.normal[1], self.normal[0]])
        beside: Floats = self._from_nipple(places_px) @ (across if across[1] > 0 else -across)
        return beside

    def from_nipple_mm(self, places_px: ArrayLike) -> Floats:
        """The distance of places [n, 2] from the nipple."""
        return np.asarray(np.linalg.norm(self._from_nipple(places_px), axis=1))

    def depth(self, place_px: tuple[float, float]) -> Code:
        """Anterior, middle or posterior third."""
        part = float(self.behind_nipple_mm([place_px])[0]) / self.reach_mm
        if part < 1 / 3:
            return codes.ANTERIOR_THIRD
        return codes.MIDDLE_THIRD_OF_BREAST if part < 2 / 3 else codes.POSTERIOR_THIRD

    def _from_nipple(self, places_px: ArrayLike) -> Floats:
        away: Floats = (np.asarray(places_px, np.float64).reshape(-1, 2) - self.nipple_px) * self.spacing_mm
        return away


def frame_of(view: Mammogram, breast: Breast) -> Frame:
    """The breast's coordinates on a view."""
    towards = -1.0 if view.chest_wall == "right" else 1.0
    normal = (towards, 0.0)
    edge = _muscle_edge(view, breast.pectoral) if view.projection not in FROM_ABOVE else None
    if edge is not None:
        slope, _ = edge
        length = float(np.hypot(1.0, slope))
        normal = (towards / length, -towards * slope / length)
    whole = breast.mask | breast.pectoral
    nipple = breast.nipple or _foremost(whole, normal)
    side = spacing(view)
    return Frame(
        nipple_px=nipple,
        has_nipple=breast.nipple is not None,
        normal=normal,
        reach_mm=_reach_mm(view, whole, nipple, normal, edge),
        area_mm2=float(np.count_nonzero(whole)) * side**2,
        spacing_mm=side,
    )


def spacing(view: Mammogram) -> float:
    """Side of a pixel in the body, mm."""
    return view.spacing.object_mm


def half_of(view: Mammogram, frame: Frame, place_px: tuple[float, float]) -> Code:
    """The half of the breast that a place lies in, as one view shows it."""
    below = float(frame.beside_nipple_mm([place_px])[0]) > 0
    inner_or_lower = below == _growing_rows_lead(view, inwards=view.projection in FROM_ABOVE)
    if view.projection in FROM_ABOVE:
        return codes.INNER_HALF if inner_or_lower else codes.OUTER_HALF
    return codes.LOWER_HALF if inner_or_lower else codes.UPPER_HALF


def quadrant_of(outer_or_inner: Code, upper_or_lower: Code) -> Code:
    """The quadrant of a place from its halves on two views."""
    return {
        (codes.OUTER_HALF, codes.UPPER_HALF): codes.UPPER_OUTER_QUADRANT,
        (codes.INNER_HALF, codes.UPPER_HALF): codes.UPPER_INNER_QUADRANT,
        (codes.OUTER_HALF, codes.LOWER_HALF): codes.LOWER_OUTER_QUADRANT,
        (codes.INNER_HALF, codes.LOWER_HALF): codes.LOWER_INNER_QUADRANT,
    }[outer_or_inner, upper_or_lower]


def share_within(mask: NDArray[np.bool_], places_px: Floats) -> float:
    """The part of places [n, 2] (column, row) that lie on a mask; 0 without places."""
    if not len(places_px):
        return 0.0
    columns, rows = (np.clip(places_px[:, k].astype(np.intp), 0, mask.shape[1 - k] - 1) for k in (0, 1))
    return float(mask[rows, columns].mean())


def _growing_rows_lead(view: Mammogram, *, inwards: bool) -> bool:
    """Whether growing rows lead to the inner side, or to the feet, by Patient Orientation where it says so."""
    orientation = view.header.get("PatientOrientation")
    rows = str(orientation[1]).upper() if isinstance(orientation, Sequence) and len(orientation) == 2 else ""
    there, back = ("L" if view.laterality == "R" else "R", view.laterality) if inwards else ("F", "H")
    return there in rows if (there in rows) != (back in rows) else True


def _muscle_edge(view: Mammogram, pectoral: NDArray[np.bool_]) -> tuple[float, float] | None:
    """The muscle's edge towards the breast as the line column = slope * row + offset; None where it has none."""
    rows = np.flatnonzero(pectoral.any(axis=1))
    if len(rows) * spacing(view) < LEAST_MUSCLE_MM:
        return None
    found = pectoral[rows]
    edge = found.argmax(axis=1) if view.chest_wall == "right" else found.shape[1] - found[:, ::-1].argmax(axis=1)
    slope, offset = np.polyfit(rows + 0.5, edge, 1)
    for _ in range(TRIMMED):  # where the muscle is cut by the skin or ends round, its border is not its edge
        off = np.abs(edge - slope * (rows + 0.5) - offset)
        near = off <= 2 * np.median(off) + 1
        slope, offset = np.polyfit(rows[near] + 0.5, edge[near], 1)
    leans_back = slope > 0 if view.chest_wall == "right" else slope < 0
    return (float(slope), float(offset)) if leans_back and np.degrees(np.arctan(abs(slope))) < STEEPEST else None


def _foremost(mask: NDArray[np.bool_], normal: tuple[float, float]) -> tuple[float, float]:
    """The place of a mask that lies farthest along the normal; the middle of the view where the mask is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return mask.shape[1] / 2, mask.shape[0] / 2
    found = mask[rows]
    ends = found.argmax(axis=1) if normal[0] < 0 else found.shape[1] - 1 - found[:, ::-1].argmax(axis=1)
    forward = ends * normal[0] + rows * normal[1]
    k = int(np.median(np.flatnonzero(forward >= forward.max() - 1)))
    return float(ends[k]) + 0.5, float(rows[k]) + 0.5


def _reach_mm(
    view: Mammogram,
    mask: NDArray[np.bool_],
    nipple: tuple[float, float],
    normal: tuple[float, float],
    edge: tuple[float, float] | None,
) -> float:
    """From the nipple back along the normal to the muscle's edge, or to the rearmost column of the breast."""
    columns = np.flatnonzero(mask.any(axis=0))
    wall = view.pixels.shape[1] if view.chest_wall == "right" else 0
    if len(columns):
        wall = int(columns[-1]) + 1 if view.chest_wall == "right" else int(columns[0])
    back = abs(wall - nipple[0]) / abs(normal[0])
    if edge is not None:
        slope, offset = edge
        # How far back the ray from the nipple meets the line.
        met = (slope * nipple[1] + offset - nipple[0]) / (slope * normal[1] - normal[0])
        back = min(back, met) if met > 0 else back
    return float(max(back * spacing(view), 1.0))
