"""Whether a series is a chest in which nodules can be read, and what the reader of the answer should know about it.

What is refused is what would make an answer meaningless; everything else is read with a warning. Sharp and soft
kernels, any pose, arms beside the chest and missing slices (told by `pipelines.volume`) are read as they are.
"""

from __future__ import annotations

import re

import numpy as np
from pydicom import Dataset

from pipelines.nodule.lungs import GRID_MM, LEFT, RIGHT, Lungs
from pipelines.reasons import Reason, refuse
from pipelines.suitability import check_geometry, has_contrast
from pipelines.volume import LoadedSeries, Volume

# Fleischner Society (MacMahon et al., Radiology 284, 2017, 228-243) asks for slices of at most 1.5 mm, Lung-RADS and
# the ACR's screening parameters for at most 2.5 mm. Above 3 mm a nodule of 6 mm, from where on it counts, lies in two
# slices; above 6 mm it is thinner than one, and neither volume nor type can be told.
THICK_MM, MOST_MM = 3.0, 6.0
# As wide as a fifth of the smallest nodule that counts.
COARSE_PIXEL_MM = 1.2
# A slab is several slices thick; overlapping reconstructions are seldom more than twice as thick as they lie apart.
SLAB_MM, SLAB_RATIO = 4.0, 2.2
ADULT_YEARS = 18
# Both lungs of a ten-year-old hold about 2 L at full breath, of a five-year-old 1.2 L; adults' rarely less than that.
CHILD_ML = 1200.0
# More of a cross-section than the lungs' tips and borders have at the edge of a series that shows them whole.
CUT_CM2 = 10.0
ONE_LUNG_ML = 100.0
# Bone and calcified nodules stay below; a clip or wire of some size is above.
METAL_HU, METAL_ML = 2500, 0.1
_SLAB_WORDS = re.compile(
    r"(?<![a-z])(mip|minip|maximum[ _-]intensity|average[ _-]ip|avgip|slab)(?![a-z])", re.IGNORECASE
)


def check_series(series: LoadedSeries) -> None:
    """Refuse what cannot be read, before the lungs are looked for: pose, matrix, projections and very thick slices."""
    check_geometry(series.volume)
    thickness, spacing = _thickness_mm(series.volume)
    if _is_projection(series.headers[0], thickness, spacing):
        raise refuse("input.projected_slabs", thickness_mm=round(thickness, 1), spacing_mm=round(spacing, 1))
    if max(thickness, spacing) > MOST_MM + 0.05:
        raise refuse("geometry.too_thick_slices", thickness_mm=round(max(thickness, spacing), 1), most_mm=MOST_MM)


def warnings_about(series: LoadedSeries, lungs: Lungs) -> tuple[Reason, ...]:
    """What qualifies an answer on this series: contrast, slices, pixels, age, metal, and lungs only partly there."""
    volume, header = series.volume, series.headers[0]
    warnings = []
    if has_contrast(header):
        warnings.append(Reason("contrast.in_nodules"))
    if (thickness := max(_thickness_mm(volume))) > THICK_MM + 0.05:
        warnings.append(Reason("geometry.thick_slices", {"thickness_mm": round(thickness, 1)}))
    plane = volume.plane[0]
    if (pixel := max(plane.row_spacing_mm, plane.column_spacing_mm)) > COARSE_PIXEL_MM:
        warnings.append(Reason("geometry.coarse_pixels", {"pixel_mm": round(pixel, 2)}))
    missing = _missing(lungs)
    if missing:
        warnings.append(Reason("body_part.partial", {"detail": missing}))
    if child := _child(header, lungs, is_whole=not missing):
        warnings.append(Reason("body_part.child", {"detail": child}))
    if _has_metal(volume, lungs):
        warnings.append(Reason("input.metal"))
    return tuple(warnings)


def _thickness_mm(volume: Volume) -> tuple[float, float]:
    """Nominal thickness of the slices and the usual step between them, mm."""
    thickness = float(np.median([plane.thickness_mm for plane in volume.plane]))
    return thickness, float(np.median(np.diff(volume.position_mm)))


def _is_projection(header: Dataset, thickness: float, spacing: float) -> bool:
    """Whether slices are slabs seen through: by their description, or as derived ones that overlap by far."""
    kind = [str(value).upper() for value in header.get("ImageType") or []]
    if _SLAB_WORDS.search(str(header.get("SeriesDescription") or "")):
        return True
    return "DERIVED" in kind[:1] and thickness >= SLAB_MM and thickness >= SLAB_RATIO * spacing


def _missing(lungs: Lungs) -> str:
    """What of the lungs is not in the images, in words; empty where nothing is missing."""
    side = lungs.side
    faces = {
        "below": side[0], "above": side[-1],
        "beside": np.concatenate([side[:, :, 0], side[:, :, -1]]), "in front or behind": side[:, [0, -1]],
    }  # fmt: skip
    cut = [name for name, face in faces.items() if float((face > 0).sum()) * GRID_MM**2 / 100 > CUT_CM2]
    parts = [f"lung is cut {' and '.join(cut)}"] if cut else []
    for which, name in ((RIGHT, "right"), (LEFT, "left")):
        if lungs.volume_ml[which - 1] < ONE_LUNG_ML:
            parts.append(f"hardly any aerated {name} lung was found")
    return "; ".join(parts)


def _child(header: Dataset, lungs: Lungs, *, is_whole: bool) -> str:
    """Why the patient seems to be a child, in words; empty for adults."""
    years = _age_years(header)
    if years is not None:
        return f"{years} years old" if years < ADULT_YEARS else ""
    total_ml = sum(lungs.volume_ml)
    return f"lungs of {total_ml:.0f} mL" if is_whole and total_ml < CHILD_ML else ""


def _age_years(header: Dataset) -> int | None:
    """Whole years of the patient's age (PS3.5, 6.2, VR AS), or from the dates of birth and study; None without both."""
    found = re.fullmatch(r"(\d{1,3})([DWMY])", str(header.get("PatientAge") or "").strip().upper())
    if found:
        count, days = int(found[1]), {"D": 1.0, "W": 7.0, "M": 30.44, "Y": 365.25}[found[2]]
        return int((count * days + 0.5) / 365.25) if found[2] != "Y" else count
    born, seen = (str(header.get(keyword) or "") for keyword in ("PatientBirthDate", "StudyDate"))
    if not (re.fullmatch(r"\d{8}", born) and re.fullmatch(r"\d{8}", seen)):
        return None
    return (int(seen) - int(born)) // 10000


def _has_metal(volume: Volume, lungs: Lungs) -> bool:
    """Whether there is metal at the height of the lungs."""
    heights = np.flatnonzero((lungs.side > 0).any(axis=(1, 2)))
    first, last = (lungs.grid.points((int(k), 0, 0)) @ lungs.grid.normal for k in heights[[0, -1]])
    found_ml = 0.0
    for hu, plane, extent in zip(volume.hu, volume.plane, volume.local_thickness_mm, strict=True):
        if first - GRID_MM <= np.dot(plane.origin, lungs.grid.normal) <= last + GRID_MM:
            found_ml += float((hu > METAL_HU).sum()) * plane.pixel_area_mm2 * float(extent) / 1000
    return found_ml > METAL_ML
