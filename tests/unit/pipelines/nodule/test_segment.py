from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.registry import verify
from pipelines.geometry import Point
from pipelines.measuring import center_of, points_of, volume_mm3
from pipelines.nodule import segment
from pipelines.nodule.patches import read_index, read_patch
from pipelines.nodule.segment import between, load_segmenter
from pipelines.reasons import Refusal
from tests.unit.pipelines.nodule.nodules import TISSUE_HU, ellipsoid, segmenter, stack

HEIGHTS = np.arange(-20, 20.1, 1.25).tolist()


def dice(volume_mask: np.ndarray, found: segment.Region) -> float:
    mask = np.zeros_like(volume_mask)
    mask[list(found.slice_index)] = found.mask
    return 2 * float((mask & volume_mask).sum()) / float(mask.sum() + volume_mask.sum())


@settings(max_examples=12)
@given(
    tilt=st.floats(-20, 20),
    flipped=st.booleans(),
    off=st.tuples(*[st.floats(-1.5, 1.5)] * 3),
    radius=st.floats(3, 12),
)
def test_a_ball_is_outlined_in_any_stack_from_a_centre_that_is_off(
    tilt: float, flipped: bool, off: Point, radius: float
) -> None:
    volume = stack(HEIGHTS, tilt_degrees=tilt, flipped=flipped)
    ball = ellipsoid(volume, (4, -3, 0), radius)
    volume.hu[ball] = TISSUE_HU
    center = (4 + off[0], -3 + off[1], off[2])
    assert dice(ball, segmenter().segment(volume, [center])[0]) > 0.85


def test_each_centre_gets_its_own_nodule_in_the_order_of_the_centres() -> None:
    volume = stack(HEIGHTS)
    right, left = ellipsoid(volume, (-14, 0, 0), 5), ellipsoid(volume, (14, 3, 2), 3)
    volume.hu[right | left] = TISSUE_HU
    found = segmenter().segment(volume, [(14, 3, 2), (-14, 0, 0)])
    assert dice(left, found[0]) > 0.9
    assert dice(right, found[1]) > 0.9
    assert segmenter().segment(volume, []) == ()


def test_a_mass_is_seen_whole() -> None:
    volume = stack(np.arange(-48, 48.1, 4).tolist(), size=160)
    mass = ellipsoid(volume, (0, 0, 0), 38)
    volume.hu[mass] = TISSUE_HU
    assert dice(mass, segmenter().segment(volume, [(3, -2, 4)])[0]) > 0.95


@pytest.mark.parametrize("logit", [-50.0, 3.0])
def test_there_is_always_a_region_at_the_centre(logit: float) -> None:
    class Stubborn(torch.nn.Module):
        def forward(self, squares: torch.Tensor) -> torch.Tensor:
            return torch.full((len(squares), 2, *squares.shape[2:]), logit)

    volume = stack(HEIGHTS, size=48)
    for center in [(1.0, 2.0, 3.0), (-15.0, 15.0, 19.9), (0.0, 0.0, 300.0)]:
        found = segmenter(Stubborn()).segment(volume, [center])[0]
        assert found.mask.any(axis=(1, 2)).all()
        assert found.slice_index


def test_a_vessel_far_from_the_centre_is_another_part() -> None:
    volume = stack(HEIGHTS)
    ball = ellipsoid(volume, (0, 0, 0), 3)
    volume.hu[ball | ellipsoid(volume, (6.5, 0, 0), (2, 2, 30))] = TISSUE_HU
    assert dice(ball, segmenter().segment(volume, [(-0.5, 0.5, 0)])[0]) > 0.9


@given(
    position=st.lists(st.floats(-50, 50), min_size=1, max_size=6, unique=True).map(sorted),
    height=st.floats(-80, 80),
)
def test_heights_between_slices_are_blended_and_clamped_outside(position: list[float], height: float) -> None:
    below, above, weight = between(np.array(position), np.array([height]))
    blended = position[below[0]] * (1 - weight[0]) + position[above[0]] * weight[0]
    assert blended == pytest.approx(np.clip(height, position[0], position[-1]), abs=1e-6)


def test_weights_that_do_not_match_are_refused(tmp_path: Path) -> None:
    manifest = {"name": "x", "sha256": "0" * 64, "architecture": {"name": "unet25d"}}
    with pytest.raises(Refusal, match="does not match"):
        load_segmenter(tmp_path / "none.safetensors", manifest)


def test_the_shipped_network_outlines_real_nodules(triage_data: Path) -> None:
    folder = triage_data / "chest" / "lidc_nodules"
    if not folder.is_dir():
        pytest.skip("the nodules are not at hand")
    model = verify(segment.NAME)
    known = load_segmenter(
        model.weights,
        {
            "name": model.manifest.name,
            "sha256": model.manifest.sha256,
            "architecture": model.manifest.architecture,
            "calibration": model.manifest.calibration,
        },
    )
    errors = []
    for row in read_index(folder)[::90]:
        patch = read_patch(folder, row)
        center = center_of(*points_of(patch.volume, patch.consensus_region))
        found = known.segment(patch.volume, [center])[0]
        errors.append(abs(volume_mm3(patch.volume, found) / volume_mm3(patch.volume, patch.consensus_region) - 1))
    assert np.median(errors) < 0.3
