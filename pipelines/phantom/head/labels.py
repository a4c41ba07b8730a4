"""The numbers of a head's label map.

Below 200 they are FreeSurfer's, from 200 to 230 those of SimNIBS' charm atlas less 300, and from 231 our own for what
those maps do not name. Where a structure has two sides the left number comes first. 0 is everything outside: air.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OUTSIDE = 0
WHITE_MATTER = (2, 41)
CORTEX = (3, 42)
LATERAL_VENTRICLE = (4, 43)
LOWER_HORN = (5, 44)
CEREBELLAR_WHITE_MATTER = (7, 46)
CEREBELLAR_CORTEX = (8, 47)
THALAMUS = (10, 49)
CAUDATE = (11, 50)
PUTAMEN = (12, 51)
PALLIDUM = (13, 52)
THIRD_VENTRICLE = 14
FOURTH_VENTRICLE = 15
BRAIN_STEM = 16
HIPPOCAMPUS = (17, 53)
AMYGDALA = (18, 54)
FLUID = 24
WHITE_MATTER_LESION = (25, 57)
ACCUMBENS = (26, 58)
VENTRAL_DIENCEPHALON = (28, 60)
VESSEL = (30, 62)
FIFTH_VENTRICLE = 72
OPTIC_CHIASM = 85
CHOROID_PLEXUS = (136, 163, 137, 164)
ARTERY = 202
EYE = 206
SOFT_TISSUE = 207
EYE_MUSCLE = 208
MUCOSA = 209
SKIN = 211
SPINAL_CORD = 212
VEIN = 214
HARD_BONE = 215
SPONGY_BONE = 216
OPTIC_NERVE = 230

FALX = 231
TENTORIUM = 232
AIR_CELL = 233
CALCIFICATION = 234
DENSE_SINUS = 235
FAT = 236
MUSCLE = 237
TABLE = 238
DARK_STROKE = 239
BLOOD = 240
OEDEMA = 241
AIR_INSIDE = 242
DENSE_ARTERY = 243
EYE_LENS = 244
SULCUS = 245  # fluid over the hemispheres, which tight brains do not show
SCALP_BLOOD = 246  # outside the skull: not a bleed that is looked for

CEREBRUM_LEFT = (2, 3, 10, 11, 12, 13, 17, 18, 25, 26, 28)
CEREBRUM_RIGHT = (41, 42, 49, 50, 51, 52, 53, 54, 57, 58, 60)
CEREBRUM = CEREBRUM_LEFT + CEREBRUM_RIGHT
CEREBELLUM = CEREBELLAR_WHITE_MATTER + CEREBELLAR_CORTEX
DEEP_GREY = THALAMUS + CAUDATE + PUTAMEN + PALLIDUM + ACCUMBENS + VENTRAL_DIENCEPHALON
BRAIN = (*CEREBRUM, *CEREBELLUM, BRAIN_STEM, OPTIC_CHIASM, DARK_STROKE, OEDEMA)
VENTRICLES = LATERAL_VENTRICLE + LOWER_HORN + (THIRD_VENTRICLE, FOURTH_VENTRICLE, FIFTH_VENTRICLE) + CHOROID_PLEXUS
BONE = (HARD_BONE, SPONGY_BONE)
INTRACRANIAL = (*BRAIN, *VENTRICLES, *VESSEL, FLUID, SULCUS, ARTERY, FALX, TENTORIUM, CALCIFICATION, DENSE_SINUS, BLOOD,
                AIR_INSIDE, DENSE_ARTERY)  # fmt: skip


def table(*numbers: int) -> NDArray[np.bool_]:
    """A lookup table of 256 entries that is true for `numbers`: `table(*BONE)[labels]` is the mask of bone."""
    lookup = np.zeros(256, np.bool_)
    lookup[list(numbers)] = True
    return lookup
