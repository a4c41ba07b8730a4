"""The transfer syntaxes in which data sets are taken, in the order in which they are preferred.

Compressed images are stored as they came. Explicit VR Big Endian is not taken (retired), nor is any syntax whose pixel
data lie elsewhere (JPIP).
"""

from __future__ import annotations

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"

_LOSSLESS = (
    "1.2.840.10008.1.2.4.80",  # JPEG-LS
    "1.2.840.10008.1.2.4.70",  # JPEG, first-order prediction
    "1.2.840.10008.1.2.4.57",  # JPEG, process 14
    "1.2.840.10008.1.2.4.90",  # JPEG 2000
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.201",  # High-Throughput JPEG 2000
    "1.2.840.10008.1.2.4.202",  # the same, resolution progressive
    "1.2.840.10008.1.2.4.92",  # JPEG 2000, multi-component
)
_LOSSY = (
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.51",  # JPEG extended
    "1.2.840.10008.1.2.4.53",  # JPEG, processes 6 and 8 (retired)
    "1.2.840.10008.1.2.4.55",  # JPEG, processes 10 and 12 (retired)
    "1.2.840.10008.1.2.4.81",  # JPEG-LS, near-lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.93",  # JPEG 2000, multi-component
    "1.2.840.10008.1.2.4.203",  # High-Throughput JPEG 2000
)
_VIDEO = (
    "1.2.840.10008.1.2.4.100",  # MPEG-2, main level
    "1.2.840.10008.1.2.4.101",  # MPEG-2, high level
    "1.2.840.10008.1.2.4.102",  # MPEG-4
    "1.2.840.10008.1.2.4.103",  # MPEG-4, compatible with Blu-ray
    "1.2.840.10008.1.2.4.104",  # MPEG-4, level 4.2 for 2D video
    "1.2.840.10008.1.2.4.105",  # MPEG-4, level 4.2 for 3D video
    "1.2.840.10008.1.2.4.106",  # MPEG-4, stereo
    "1.2.840.10008.1.2.4.107",  # HEVC, main profile
    "1.2.840.10008.1.2.4.108",  # HEVC, main 10 profile
)

TRANSFER_SYNTAXES = (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, DEFLATED, *_LOSSLESS, *_LOSSY, *_VIDEO)
