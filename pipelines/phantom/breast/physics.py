"""What the beam of a mammography unit loses on its way.

Coefficients of fat and gland are those that Johns and Yaffe measured (1987, Phys Med Biol 32:675); calcium is that of
hydroxyapatite from its elements (NIST XCOM) at full density, of which real calcifications hold a part (Warren et al.
2013, Med Phys 40:011907). All of them are read at one effective energy, that of the beam behind half the breast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.phantom.breast.texture import Field

FAT_20_KEV, FAT_25_KEV = 0.0456, 0.0322
GLAND_20_KEV, GLAND_25_KEV = 0.0802, 0.0506
APATITE_20_KEV = 2.0
APATITE_POWER = 2.85
"""How fast its attenuation falls with energy, as the photoelectric effect does."""


@dataclass(frozen=True, slots=True)
class Beam:
    """Attenuation per mm of what lies in the beam; `scatter` is scattered by primary radiation behind the grid."""

    fat: float
    gland: float
    apatite: float
    metal: float
    scatter: float

    @staticmethod
    def of(kvp: float, thickness_mm: float, has_grid: bool = True) -> Beam:
        """The beam of a tube voltage (W/Rh) behind a breast of some thickness.

        Scatter to primary without a grid grows with thickness (Boone et al. 2000, Radiology 216:433); a grid lets
        about a quarter of it through.
        """
        energy = 12.9 + 0.25 * kvp + 0.012 * (thickness_mm - 45)
        ratio = energy / 20
        scatter = (0.1 + 0.0085 * thickness_mm) * (0.25 if has_grid else 1.0)
        return Beam(
            fat=FAT_20_KEV * ratio ** _power(FAT_20_KEV, FAT_25_KEV),
            gland=GLAND_20_KEV * ratio ** _power(GLAND_20_KEV, GLAND_25_KEV),
            apatite=APATITE_20_KEV * ratio**-APATITE_POWER,
            metal=20.0 * ratio**-APATITE_POWER,
            scatter=scatter,
        )

    def attenuation(self, thickness_mm: Field, gland_mm: Field) -> Field:
        """Loss (natural logarithm) in a breast of which so much is gland (or muscle, water, skin) and the rest fat."""
        found: Field = thickness_mm * np.float32(self.fat)
        found += gland_mm * np.float32(self.gland - self.fat)
        return found


def _power(at_20: float, at_25: float) -> float:
    return float(np.log(at_25 / at_20) / np.log(25 / 20))
