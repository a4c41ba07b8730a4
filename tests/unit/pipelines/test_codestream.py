from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import get_frame
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from pipelines.codestream import Declared, declared
from tests.unit.pipelines.series import axial_plane, ct_dataset


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("shape", [(64, 80), (96, 64)])
def test_what_an_encoder_wrote_is_read(syntax: str, shape: tuple[int, int]) -> None:
    dataset = ct_dataset(axial_plane(0.0), np.zeros(shape, np.uint16))
    dataset.compress(syntax, generate_instance_uid=False)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    assert declared(frame) == Declared(*shape, 1)


JPEG = bytes.fromhex("ffd8 ffe0 0004 0000 ff ffc3 000b 0c 0200 0100 01 01 11 00")


def test_jpeg_segments_before_the_frame_and_fill_bytes_are_passed_over() -> None:
    assert declared(JPEG) == Declared(512, 256, 1)


@given(st.binary(max_size=60), st.integers(0, len(JPEG)))
def test_anything_else_is_a_value_error(data: bytes, cut: int) -> None:
    for stream in (data, JPEG[:cut] + data, b"\xff\x4f\xff\x51" + data):
        try:
            found = declared(stream)
        except ValueError:
            continue
        assert len(found) == 3
