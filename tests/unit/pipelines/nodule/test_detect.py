"""Windows, summits and views of the networks that find nodules; what the first one is taught."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.architectures.nodule3d import CandidateNet, ReductionNet
from pipelines.grid import Grid
from pipelines.nodule import detect, learning, reduction
from pipelines.nodule.detect import Calibration, Proposals
from pipelines.nodule.lungs import Lungs
from pipelines.nodule.prepare import Prepared
from pipelines.nodule.views import cut, normalized, two_views
from pipelines.phantom.chest.nodules import PaintedNodule

SMALL = {"candidates": [4, 4, 8, 8], "reduction": [4, 4, 8, 8]}


@given(shape=st.tuples(*[st.integers(20, 480)] * 3))
@settings(max_examples=50, deadline=None)
def test_windows_cover_every_voxel_once(shape: tuple[int, int, int]) -> None:
    kept = np.zeros(shape, np.uint8)
    for window in detect.windows(shape):
        kept[tuple(slice(first, last) for first, last in window.core)] += 1
        assert all(side % detect.MULTIPLE == 0 for side in window.shape)
        assert all(low % 2 == 0 and first % 2 == 0 for low, (first, _) in zip(window.low, window.core, strict=True))
        assert all(
            low <= first and last <= low + side
            for low, side, (first, last) in zip(window.low, window.shape, window.core, strict=True)
        )
    assert np.all(kept == 1)


def test_summits_are_read_at_their_offset_and_size() -> None:
    maps = np.zeros((5, 20, 20, 20), np.float32)
    maps[0] = -9
    maps[0, 4, 5, 6], maps[0, 12, 12, 12] = 2.0, 3.0
    maps[1:4, 4, 5, 6] = (0.5, -1.0, 0.0)
    maps[4, 4, 5, 6] = np.log(7.0)
    found = detect.peaks(maps)
    assert found.odds.tolist() == [3.0, 2.0]
    np.testing.assert_allclose(found.index[1], [9.0, 9.5, 12.5])
    np.testing.assert_allclose(found.diameter_mm[1], 7.0, rtol=1e-5)


def test_what_the_network_is_taught_is_what_summits_give_back() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        center, diameter = generator.uniform(6, 57, 3), float(generator.uniform(3, 30))
        heat, share, size, weight = learning.targets([(center, diameter)], 64)
        odds = np.where(share > 0, 5.0, -9.0)
        found = detect.apart(detect.peaks(np.concatenate([odds[None], size]).astype(np.float32)))
        np.testing.assert_allclose(found.index, center[None], atol=1e-4)
        np.testing.assert_allclose(found.diameter_mm, [diameter], rtol=1e-4)
        assert heat.max() == 1 and weight.max() == 1
        assert share.sum() == pytest.approx(1) and heat[share > 0].min() == 1


def test_places_within_a_likelier_one_are_left_out() -> None:
    index = np.array([[10.0, 10, 10], [12.0, 10, 10], [40.0, 10, 10]])
    kept = detect.apart(Proposals(index, np.array([10.0, 4.0, 4.0]), np.array([3.0, 2.0, 1.0])))
    assert kept.odds.tolist() == [3.0, 1.0]


def test_views_are_centred_and_padded_with_air() -> None:
    hu = np.full((30, 30, 30), -850, np.int16)
    hu[3, 4, 5] = 100
    near, far = two_views(hu, np.array([3.0, 4.0, 5.0]))
    assert near.shape == far.shape == (32, 32, 32)
    assert near[16, 16, 16] == 100
    assert near[0, 16, 16] == -1000
    assert far[16, 16, 16] > far[14, 16, 16]
    assert cut(hu, (100, 0, 0), (4, 4, 4)).max() == -1000
    assert normalized(np.array([-3000, -1000, -300, 400, 3000])).tolist() == [-1, -1, 0, 1, 1]


def prepared_box(hu: np.ndarray, side: np.ndarray) -> Prepared:
    """A box whose lungs are `side`, on voxels twice as wide."""
    z, y, x = np.eye(3)[::-1]
    lungs = Lungs(Grid(np.full(3, 0.5), z, y, x, 2.0, side.shape), side, (0.0, 0.0))
    return Prepared(hu, Grid(np.zeros(3), z, y, x, 1.0, hu.shape), lungs)


def test_two_windows_say_what_one_does() -> None:
    torch.manual_seed(0)
    networks = detect.build(SMALL)
    for network in networks:
        network.eval()
    detector = detect.Detector(*networks, detect.PLAIN, False, torch.device("cpu"))
    hu = np.random.default_rng(1).integers(-1000, 200, (64, 32, 32)).astype(np.int16)
    whole = detector.maps(hu)
    assert whole.shape == (5, 32, 16, 16)
    assert detector.maps(hu, prepared_box(hu, np.zeros((32, 16, 16), np.uint8)))[0].max() == -20
    corner = np.zeros((32, 16, 16), np.uint8)
    corner[-1, -1, -1] = 1
    np.testing.assert_array_equal(detector.maps(hu, prepared_box(hu, corner)), whole)
    assert np.abs(detector.look_again(hu, np.array([[30.0, 15, 15]] * 17))).shape == (17,)


def test_networks_take_every_allowed_size() -> None:
    first, second = CandidateNet((4, 4, 8, 8)).eval(), ReductionNet((4, 4, 8, 8)).eval()
    for sides in product((16, 32), repeat=3):
        assert first(torch.zeros(1, 1, *sides)).shape == (1, 5, *(side // 2 for side in sides))
    assert second(torch.zeros(3, 2, 32, 32, 32)).shape == (3,)


def test_certainty_grows_with_what_either_network_says() -> None:
    calibration = Calibration(0.5, 0.7, -1.0)
    odds = np.linspace(-5, 5, 11)
    assert np.all(np.diff(calibration.certainty(odds, np.zeros(11))) > 0)
    assert np.all(np.diff(calibration.certainty(np.zeros(11), odds)) > 0)
    assert calibration.certainty(np.array([1e6]), np.array([1e6]))[0] <= 1


def test_a_place_hits_the_nodule_that_it_lies_in() -> None:
    nodules = [PaintedNodule("solid", "intrapulmonary", (10.0, 10.0, 10.0), 8.0, 268.0)]
    assert reduction.hit_by(np.array([10.0, 10.0, 13.9]), nodules) is nodules[0]
    assert reduction.hit_by(np.array([10.0, 10.0, 14.1]), nodules) is None


def test_the_loss_falls_when_the_network_says_what_it_is_taught() -> None:
    heat, share, size, weight = learning.targets([(np.array([30.0, 31.0, 29.0]), 8.0)], 64)
    image = torch.zeros(1, 1, 64, 64, 64)
    counted = torch.ones(1, 32, 32, 32)
    batch = (image, *(torch.from_numpy(part)[None] for part in (heat, share, size, weight)), counted)

    class Says(torch.nn.Module):
        def __init__(self, odds: torch.Tensor, rest: torch.Tensor) -> None:
            super().__init__()
            self.said = torch.cat([odds[None], rest])[None]

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.said

    right = Says(torch.from_numpy(np.where(share > 0, 6.0, -6.0)).float(), torch.from_numpy(size))
    wrong = Says(torch.full((32, 32, 32), -2.0), torch.zeros(4, 32, 32, 32))
    assert learning.loss(right, batch)[0] < 0.1 < learning.loss(wrong, batch)[0]


def test_a_mirrored_box_has_mirrored_places() -> None:
    torch.manual_seed(1)
    networks = detect.build(SMALL)
    for network in networks:
        network.eval()
    detector = detect.Detector(*networks, detect.PLAIN, False, torch.device("cpu"))
    hu = np.random.default_rng(2).integers(-1000, 200, (32, 32, 32)).astype(np.int16)
    maps, mirrored = detector.maps(hu), detector.maps(np.ascontiguousarray(hu[..., ::-1]))
    np.testing.assert_allclose(mirrored[0, ..., ::-1], maps[0], atol=1e-4)
    np.testing.assert_allclose(mirrored[3, ..., ::-1], -maps[3], atol=1e-4)
    np.testing.assert_allclose(mirrored[4, ..., ::-1], maps[4], atol=1e-4)
