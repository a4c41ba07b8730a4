"""Made nodules for tests: balls and ellipsoids in plain lung, on stacks of any geometry, and folders of patches."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pipelines.findings import Region
from pipelines.geometry import Plane
from pipelines.nodule.segment import OFFSETS, Segmenter
from pipelines.volume import Volume

LUNG_HU, TISSUE_HU = -850, 40


def stack(
    heights: Sequence[float], size: int = 96, spacing: float = 0.7, tilt_degrees: float = 0.0, flipped: bool = False
) -> Volume:
    """Lung on slices about the patient's origin at these positions along their normal; the table moves along z."""
    tilt = np.radians(tilt_degrees)
    column = np.array([0.0, np.cos(tilt), -np.sin(tilt)])
    row = np.array([-1.0 if flipped else 1.0, 0.0, 0.0])
    middle = (size - 1) / 2 * spacing * (row + column)
    planes = []
    for height in heights:
        x, y, z = (np.array([0.0, 0.0, height / np.cos(tilt)]) - middle).tolist()
        planes.append(Plane((x, y, z), tuple(row.tolist()), tuple(column.tolist()), spacing, spacing, 1.0))
    planes = planes[::-1] if flipped else planes
    names = tuple(f"2.25.{k}" for k in range(len(planes)))
    hu = np.full((len(planes), size, size), LUNG_HU, np.int16)
    return Volume(hu, tuple(planes), names, (1,) * len(planes))


def ellipsoid(volume: Volume, center: Sequence[float], radii: Sequence[float] | float) -> np.ndarray:
    """The voxels within radii along the patient's axes."""
    grid = np.meshgrid(*(np.arange(size) for size in volume.hu.shape[1:]), indexing="ij")
    points = np.stack([plane.patient_from_pixel(*grid) for plane in volume.plane])
    return np.asarray((((points - np.array(center)) / np.broadcast_to(radii, 3)) ** 2).sum(axis=-1) <= 1)


def region(mask: np.ndarray) -> Region:
    return Region.from_volume(mask)


class SoftTissue(torch.nn.Module):
    """In the place of a trained network: soft tissue is nodule."""

    def forward(self, squares: torch.Tensor) -> torch.Tensor:
        seen = squares[:, OFFSETS.index(0.0)]
        return torch.stack([20 * seen, seen], dim=1)


def segmenter(network: torch.nn.Module | None = None) -> Segmenter:
    return Segmenter(network or SoftTissue(), 0.5, bf16=False, device=torch.device("cpu"))


ROW = {
    "nodule_id": "P1_1",
    "patient_id": "P1",
    "file": "nodules/P1_1.npz",
    "n_readers": "3",
    "texture_ratings": "5;5;4",
    "malignancy_ratings": "4;5;3",
    "calcification_ratings": "6;6;6",
    "flags": "",
}


def write_folder(folder: Path, rows: Sequence[dict[str, str]], radii: Sequence[float] = (3.0, 3.5, 4.0)) -> Path:
    """A folder as of LIDC: in each patch a ball that its readers outline with these radii. x and y run against LPS."""
    (folder / "nodules").mkdir(parents=True)
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    affine = np.array([[0.7, 0, 0, 10], [0, 0.7, 0, 20], [0, 0, 1.25, 30], [0, 0, 0, 1.0]])
    x, y, z = np.meshgrid(np.arange(44), np.arange(44), np.arange(9), indexing="ij")
    away = np.sqrt(((x - 22) * 0.7) ** 2 + ((y - 22) * 0.7) ** 2 + ((z - 4) * 1.25) ** 2)
    image = np.where(away <= radii[1], TISSUE_HU, LUNG_HU).astype(np.int16)
    masks = sum((away <= radius).astype(np.uint8) << bit for bit, radius in enumerate(radii))
    for row in rows:
        np.savez(folder / row["file"], image=image, masks=np.asarray(masks, np.uint8), affine=affine)
    return folder
