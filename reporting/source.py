"""What a report is made from: the source's attributes and the reader's outcome, as one frozen case."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pipelines.codes import Code
from pipelines.findings import Outcome
from pipelines.geometry import Plane


@dataclass(frozen=True, slots=True)
class Equipment:
    """Who made the objects: this installation of the node (PS3.3, C.7.5.1 and C.7.5.2)."""

    manufacturer: str
    model_name: str
    software_version: str
    device_serial_number: str
    institution_name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ReportCase:
    """One read series (or study) and its outcome.

    `headers[k]`, `planes[k]`, `frames[k]` and `pixels[k]` belong to slice k of the volume that `outcome`'s regions
    refer to; headers have no pixel data. `revision_digest` names the fixed list of instances that was read,
    `configuration_hash` the settings: with the model and the kind of object they determine every UID, so the same work
    done twice gives the same bytes. `made_at` (aware, UTC) is when the last of the instances came, for the same
    reason. `window` is centre and width for pictures.
    """

    headers: tuple[Dataset, ...]
    planes: tuple[Plane, ...]
    frames: tuple[int, ...]
    pixels: NDArray[np.int16] | NDArray[np.float32]
    outcome: Outcome
    pipeline: str
    looked_for: Code
    site: Code
    window: tuple[float, float]
    revision_digest: str
    configuration_hash: str
    made_at: datetime
    equipment: Equipment
