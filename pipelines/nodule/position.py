"""Where a nodule lies: within the lung, at the pleura or on a fissure, and whether it looks like a benign one there.

Lung-RADS v2022 gives category 2 to solid nodules below 10 mm beside costal, mediastinal or diaphragmatic pleura or a
fissure, if their margin is smooth and they are oval, lentiform or triangular: mostly lymph nodes within the lung (Ahn
et al., Radiology 2010, 254:949; de Hoop et al., Radiology 2012, 265:611). Who errs here lowers a category, so that what
is in doubt counts neither as perifissural nor as benign.

A fissure is a thin bright sheet. Sheets are found by the eigenvalues of the Hessian, one large and negative and two
small (Wiemker et al., Int Congr Ser 2005, 1281:1121; Lassen et al., IEEE Trans Med Imaging 2013, 32:210); a vessel has
two large ones. Through the sheets' voxels around the nodule runs the smooth surface that most of them agree with, found
by consensus (Fischler and Bolles, Commun ACM 1981, 24:381); every voxel's own plane is a proposal, so that nothing is
drawn by chance. The nodule lies on a fissure if such a surface meets it and stands out on opposite sides of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from pipelines.findings import Region
from pipelines.geometry import Floats
from pipelines.grid import Grid, resample
from pipelines.measuring import points_of
from pipelines.nodule.lungs import Lungs
from pipelines.nodule.measure import Measures
from pipelines.volume import Volume

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]

AT_PLEURA_MM = 1.8
"""Nearer than this to the lung's surface a nodule touches the pleura: the mask of the lungs has voxels of 2 mm."""
OUTERMOST = 0.02
"""The part of a nodule's voxels that may lie nearer to the surface by chance: of its contour, or of the mask."""
LARGEST_MM = 20.0
"""Above this neither fissure nor shape is judged: so large a nodule covers and bends the fissure, and no rule asks."""

THICKEST_MM = 2.5
"""On thicker slices fissures are bands or gaps, not sheets."""
STEP_MM = 1.0
SIGMA_MM = 1.0
SHELL_MM = (2.0, 11.0)
"""So far from the nodule a fissure is sought: not in the nodule's own blurred border, nor where it has bent away."""
FROM_PLEURA_MM = 4.0
"""Nearer to the lung's surface the chest wall's blurred border looks like a sheet."""
BRIGHTEST_HU = -500.0
"""What is brighter is cut off: hardly a fissure is, and vessels and walls would drown what is beside them."""
SHEET_HU = (-900.0, -450.0)
"""What 1 mm of soft tissue in aerated lung comes to, smoothed, from emphysema to shallow breath."""
LEAST_BEND = 7.0
"""The Hessian's large eigenvalue, HU/mm2: noise of 30 HU has a standard deviation of about 4, a fissure 20 to 50."""
FLATTEST = 0.4
"""The two others' size as a part of it, at most; in a vessel the second is as large as the first."""
PROPOSALS = 200
"""So many voxels' planes are tried, evenly out of all: the surfaces with most votes gather hundreds of voxels."""
SURFACES = 4
"""Beside vessels that happen to lie in a plane the fissure need not have the most votes."""
FITS = 3
TOLERANCE_MM, SAME_WAY = 1.2, 0.85
"""A voxel agrees with a surface so near to it if its normal is turned by no more than 30 degrees (the cosine)."""
LEAST_AGREEING = 40
"""A fissure that crosses the shell has some 300 to 700 voxels there, half of them behind noise or vessels."""
MEETS_MM = 1.5
BESIDE_MM = 2.5
"""So far to both sides of a fissure there is lung again."""
CONTRAST_HU = (12.0, 110.0)
"""Over the brighter side, smoothed: a fissure has 30 to 80, noise of 30 HU a standard deviation of about 5, the middle
of a vessel of 2 mm and more over 120."""
SECTORS = 12
LEAST_STANDING_OUT = 0.7
"""Part of the surface around the nodule that stands out: chance planes through vessels and noise reach 0.66."""
LEAST_IN_SECTOR, LEAST_IN_SECTOR_STANDING = 4, 0.5
LEAST_OPPOSITE = 3
"""Pairs of opposite sectors of six: the fissure runs through or along the nodule and does not end there by chance."""

FEWEST_PIXELS, FEWEST_SLICES = 12, 2
"""Of less no shape can be told. Solid nodules so small are of category 2 by their size at baseline anyway."""
LEAST_SOLID = 0.95
"""The part of its convex hull that a smooth nodule fills: 0.98 and more of balls and ovals, while lobes leave gaps."""
ELONGATED = (1.25, 3.0)
"""Spread along pleura or fissure over that square to it. A ball has 1, a half ball on the pleura 1.7; what is longer
is a band or plate."""
LEAST_TRIANGULAR = 0.68
"""The largest triangle within an outline as a part of it: 0.41 in an oval, 0.5 in a square, 0.64 in a half disc."""
CORNERS = 24
SURE_NORMAL = 0.7
"""The slope of the depth is 1 at a plain surface; much less says that several surfaces are near."""
NORMAL_MM = 4.0
"""The pleura's direction is taken over so far to both sides, for its mask has steps of 2 mm."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a nodule lies; `benign_shape`: smooth, and oval, lentiform or triangular beside pleura or fissure."""

    position: Literal["intrapulmonary", "juxtapleural", "perifissural"]
    benign_shape: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Surroundings:
    """A nodule and what is around it on a grid of 1 mm: smoothed HU, depth in the lung and distance from it, mm.

    `nodule` holds its points and `center` its middle, as indices of the grid.
    """

    grid: Grid
    smooth: Field
    depth: Field
    away: Field
    nodule: Floats
    center: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Sheets:
    """Voxels on thin bright sheets: index and unit normal, `[n, 3]`."""

    index: Floats
    normal: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Surface:
    """A quadric over the plane through the nodule's `center`, whose normal and two directions are the rows of `axes`.

    All as indices of the grid; `terms` are the factors of `_powers`.
    """

    center: Floats
    axes: Floats
    terms: Floats

    def over(self, index: Floats) -> Floats:
        """How far points lie above the surface, along its plane's normal."""
        height, *within = ((index - self.center) @ self.axes.T).T
        return np.asarray(height - _powers(*within) @ self.terms)

    def at(self, u: Floats, v: Floats) -> Floats:
        """The points of the surface over points of its plane."""
        return np.asarray(self.center + np.stack([_powers(u, v) @ self.terms, u, v], axis=1) @ self.axes)


def place_of(volume: Volume, lungs: Lungs, region: Region, measures: Measures) -> Place:
    """Where a nodule lies, and whether its shape is a benign one's there. Takes some 30 ms."""
    points, _ = points_of(volume, region)
    if np.quantile(lungs.inside_mm(points), OUTERMOST) < AT_PLEURA_MM:
        normal = _pleura_normal(lungs, measures)
        return Place("juxtapleural", _is_benign(volume, region, points, measures, normal))
    fissure = _fissure_normal(volume, lungs, points, measures)
    if fissure is None:
        return Place("intrapulmonary", False)
    return Place("perifissural", _is_benign(volume, region, points, measures, fissure))


def _pleura_normal(lungs: Lungs, measures: Measures) -> Floats:
    """The direction (LPS) away from the pleura at a nodule; not of unit length where the surface is folded."""
    steps = NORMAL_MM * np.eye(3)
    ahead, behind = (lungs.inside_mm(np.asarray(measures.center_mm) + side * steps) for side in (1, -1))
    return np.asarray((ahead - behind) / (2 * NORMAL_MM))


def _is_benign(volume: Volume, region: Region, points: Floats, measures: Measures, normal: Floats) -> bool:
    """Whether a nodule is smooth, and oval or lentiform along a surface of this normal or triangular in its slice."""
    mask = region.mask[region.slice_index.index(measures.key_slice)]
    if len(region.slice_index) < FEWEST_SLICES or mask.sum() < FEWEST_PIXELS:
        return False
    if measures.longest_diameter_mm > LARGEST_MM or _solidity(volume, region, points) < LEAST_SOLID:
        return False
    elongation = _elongation(volume, points, measures, normal)
    low, high = ELONGATED
    return elongation <= high and (elongation >= low or _is_triangular(mask, volume, measures))


def _solidity(volume: Volume, region: Region, points: Floats) -> float:
    """How much of the voxels within a nodule's convex hull are its own: 1 for a ball of any size on any grid."""
    try:
        hull = ConvexHull(points).equations
    except (QhullError, ValueError):
        return 0.0
    rows, columns = (np.flatnonzero(region.mask.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    row, column = np.mgrid[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    slices = range(region.slice_index[0], region.slice_index[-1] + 1)
    lattice = np.concatenate([volume.plane[k].patient_from_pixel(row, column).reshape(-1, 3) for k in slices])
    within = (lattice @ hull[:, :3].T + hull[:, 3] < 1e-6).all(axis=1)
    return len(points) / max(1, int(within.sum()))


def _elongation(volume: Volume, points: Floats, measures: Measures, normal: Floats) -> float:
    """The largest spread of a nodule along a surface over that across it; 0 where the surface has no direction."""
    length = float(np.linalg.norm(normal))
    if length < SURE_NORMAL:
        return 0.0
    axes = np.stack([normal / length, *_across(normal / length)])
    plane, key = volume.plane[measures.key_slice], measures.key_slice
    edges = np.array([plane.row_spacing_mm, plane.column_spacing_mm, volume.local_thickness_mm[key]])
    voxel = np.stack([plane.column_direction, plane.row_direction, plane.normal])
    # Voxels are boxes, not points: without their own spread what is one slice thick would be flat.
    spread = np.cov(points.T) + voxel.T @ np.diag(edges**2 / 12) @ voxel
    turned = axes @ spread @ axes.T
    return float(np.sqrt(np.linalg.eigvalsh(turned[1:, 1:])[-1] / turned[0, 0]))


def _is_triangular(mask: Mask, volume: Volume, measures: Measures) -> bool:
    """Whether a triangle fills most of the convex hull of a nodule's outline in its slice."""
    plane = volume.plane[measures.key_slice]
    try:
        hull = ConvexHull(np.argwhere(mask) * [plane.row_spacing_mm, plane.column_spacing_mm])
    except (QhullError, ValueError):
        return False
    corners = hull.points[hull.vertices][:: len(hull.vertices) // CORNERS + 1]
    first, second, third = (corners[list(part)] for part in zip(*combinations(range(len(corners)), 3), strict=True))
    (a, b), (c, d) = (second - first).T, (third - first).T
    return bool(np.abs(a * d - b * c).max() / 2 >= LEAST_TRIANGULAR * hull.volume)


def _fissure_normal(volume: Volume, lungs: Lungs, points: Floats, measures: Measures) -> Floats | None:
    """The normal (LPS) of the fissure that a nodule lies on, or None."""
    thickness = max(volume.plane[measures.key_slice].thickness_mm, volume.local_thickness_mm[measures.key_slice])
    if thickness > THICKEST_MM or measures.longest_diameter_mm > LARGEST_MM:
        return None
    around = _surroundings(volume, lungs, points)
    sheets = _sheets(around)
    seen = (surface for surface in _surfaces(sheets, around) if _stands_out(surface, around))
    return next((np.asarray(surface.axes[0] @ around.grid.axes) for surface in seen), None)


def _surroundings(volume: Volume, lungs: Lungs, points: Floats) -> _Surroundings:
    axes = lungs.grid.axes
    along = points @ axes.T
    low = along.min(axis=0) - SHELL_MM[1] - BESIDE_MM
    k, j, i = np.ceil((np.ptp(along, axis=0) + 2 * (SHELL_MM[1] + BESIDE_MM)) / STEP_MM + 1).astype(int).tolist()
    grid = Grid(low @ axes, axes[0], axes[1], axes[2], STEP_MM, (k, j, i))
    hu = np.minimum(resample(volume, grid), BRIGHTEST_HU).astype(np.float32)
    nodule = grid.indices(points)
    is_lung = np.ones(grid.shape, np.bool_)
    is_lung[tuple(np.rint(nodule).astype(int).T)] = False
    index = np.stack(np.meshgrid(*(np.arange(size) for size in grid.shape), indexing="ij"), axis=-1)
    return _Surroundings(
        grid,
        ndimage.gaussian_filter(hu, SIGMA_MM / STEP_MM, truncate=3),
        lungs.inside_mm(grid.points(index)).astype(np.float32),
        ndimage.distance_transform_edt(is_lung).astype(np.float32),
        nodule,
        nodule.mean(axis=0),
    )


def _sheets(around: _Surroundings) -> _Sheets:
    """The voxels around the nodule that lie on sheets."""
    smooth = around.smooth
    is_candidate = (around.away > SHELL_MM[0]) & (around.away < SHELL_MM[1]) & (around.depth > FROM_PLEURA_MM)
    is_candidate &= (smooth > SHEET_HU[0]) & (smooth < SHEET_HU[1])
    index = np.argwhere(is_candidate)
    hessian = _hessian(smooth, index)
    is_bent = np.trace(hessian, axis1=1, axis2=2) < -LEAST_BEND
    index = index[is_bent]
    values, vectors = np.linalg.eigh(hessian[is_bent])
    bend = -values[:, 0]
    is_sheet = (bend > LEAST_BEND) & (np.abs(values[:, 1:]).max(axis=1, initial=0) < FLATTEST * bend)
    return _Sheets(index[is_sheet].astype(float), vectors[is_sheet, :, 0])


def _hessian(field: Field, index: NDArray[np.intp]) -> Floats:
    """Second differences `[n, 3, 3]` at voxels off the border."""

    def at(*steps: int) -> Field:
        return np.asarray(field[tuple((index + steps).T)])

    result = np.empty((len(index), 3, 3))
    unit = np.eye(3, dtype=int)
    for a in range(3):
        result[:, a, a] = at(*unit[a]) + at(*-unit[a]) - 2 * at(0, 0, 0)
        for b in range(a):
            plus, minus = unit[a] + unit[b], unit[a] - unit[b]
            result[:, a, b] = result[:, b, a] = (at(*plus) + at(*-plus) - at(*minus) - at(*-minus)) / 4
    return result


def _surfaces(sheets: _Sheets, around: _Surroundings) -> Iterator[_Surface]:
    """The surfaces through or beside the nodule that many sheets' voxels agree with, those with most first."""
    offset = np.einsum("na,na->n", sheets.index, sheets.normal)
    nodule = around.nodule @ sheets.normal.T - offset
    proposing = np.flatnonzero((nodule.min(axis=0) < MEETS_MM) & (nodule.max(axis=0) > -MEETS_MM))
    proposing = proposing[:: len(proposing) // PROPOSALS + 1]
    normals = sheets.normal[proposing]
    # A plane is tried where the sheet may be curved: it may leave it by more than the surface may.
    agrees = np.abs(sheets.index @ normals.T - offset[proposing]) < 2 * TOLERANCE_MM
    agrees &= np.abs(sheets.normal @ normals.T) > SAME_WAY
    votes = agrees.sum(axis=0)
    for _ in range(SURFACES):
        if not len(votes) or votes.max() < LEAST_AGREEING:
            return
        best = int(votes.argmax())
        surface = _fitted_to(sheets, normals[best], agrees[:, best], around)
        if surface is not None:
            yield surface
        votes = np.where(np.abs(normals @ normals[best]) > SAME_WAY, 0, votes)


def _fitted_to(sheets: _Sheets, normal: Floats, agrees: Mask, around: _Surroundings) -> _Surface | None:
    """The quadric through the voxels that agree with a plane, or None where it loses them or misses the nodule."""
    surface = _Surface(around.center, np.stack([normal, *_across(normal)]), np.zeros(6))
    is_parallel = np.abs(sheets.normal @ normal) > SAME_WAY
    for _ in range(FITS):
        if agrees.sum() < LEAST_AGREEING:
            return None
        surface = _fitted(surface, sheets.index[agrees])
        agrees = is_parallel & (np.abs(surface.over(sheets.index)) < TOLERANCE_MM)
    over = surface.over(around.nodule)
    return surface if over.min() < MEETS_MM and over.max() > -MEETS_MM else None


def _across(normal: Floats) -> Floats:
    """Two unit vectors square to a normal and to each other."""
    first = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(normal, first)])


def _fitted(surface: _Surface, index: Floats) -> _Surface:
    height, u, v = ((index - surface.center) @ surface.axes.T).T
    terms = np.linalg.lstsq(_powers(u, v), height, rcond=None)[0]
    return _Surface(surface.center, surface.axes, terms)


def _powers(u: Floats, v: Floats) -> Floats:
    """The terms of a quadric; the square ones in units that keep the equations well conditioned."""
    return np.stack([np.ones_like(u), u, v, u * u / 100, u * v / 100, v * v / 100], axis=1)


def _stands_out(surface: _Surface, around: _Surroundings) -> bool:
    """Whether a surface is brighter than what is beside it in most directions from the nodule, and on opposite ones."""
    reach = np.arange(-30.0, 31.0)
    u, v = (axis.ravel() for axis in np.meshgrid(reach, reach, indexing="ij"))
    points = surface.at(u, v)
    away, depth = (_read(field, points) for field in (around.away, around.depth))
    is_near = (away > SHELL_MM[0]) & (away < SHELL_MM[1]) & (depth > FROM_PLEURA_MM)
    points, u, v = points[is_near], u[is_near], v[is_near]
    beside = [_read(around.smooth, points + side * BESIDE_MM * surface.axes[0]) for side in (-1, 1)]
    contrast = _read(around.smooth, points) - np.maximum(*beside)
    sector = ((np.arctan2(v, u) / (2 * np.pi) + 1) * SECTORS).astype(int) % SECTORS
    count = np.bincount(sector, minlength=SECTORS)
    standing = np.bincount(sector, (contrast > CONTRAST_HU[0]) & (contrast < CONTRAST_HU[1]), SECTORS)
    is_covered = (count >= LEAST_IN_SECTOR) & (standing >= LEAST_IN_SECTOR_STANDING * count)
    opposite = int((is_covered & np.roll(is_covered, SECTORS // 2)).sum()) // 2
    return bool(standing.sum() >= LEAST_STANDING_OUT * count.sum() and opposite >= LEAST_OPPOSITE)


def _read(field: Field, index: Floats) -> Floats:
    """A field's values at fractional indices, linear; 0 beyond its border."""
    return np.asarray(ndimage.map_coordinates(field, index.T, order=1, output=np.float64, cval=0.0))
