"""The made breast: physics, truth, views and the study."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from pipelines.mammogram_loading import load_study
from pipelines.phantom.breast.anatomy import DENSITIES, BreastOptions, GroupRecipe, MadeBreast, make_breast
from pipelines.phantom.breast.calcifications import GROUPED, Particle, particle, random_group, random_length
from pipelines.phantom.breast.crops import CropOptions, MadeCrop, make_crop
from pipelines.phantom.breast.imaging import Receptor
from pipelines.phantom.breast.mimics import IN_BREAST, ON_DETECTOR, ON_FILM, add_mimic
from pipelines.phantom.breast.physics import Beam
from pipelines.phantom.breast.presentation import Processing, curved, enhanced, halved
from pipelines.phantom.breast.scene import Picture, Scene, outline_about, picture, stamped
from pipelines.phantom.breast.study import BreastStudyOptions, MadeBreastStudy, SidedRecipe, make_study
from pipelines.phantom.breast.texture import Grain, draw, enlarged, fields, power_law, splat
from pipelines.phantom.breast.truth import SUSPICIOUS, Shape
from pipelines.phantom.breast.views import MadeView, ViewOptions, make_view

COARSE = 0.25
SHARP = Receptor("selenium", 0.05, half_mtf=12, quanta=1e9)
"""Next to no noise."""


# ---- physics


def test_attenuation_is_that_of_the_tables_and_falls_with_energy() -> None:
    soft, hard = Beam.of(25, 45), Beam.of(34, 45)
    for beam in (soft, hard):
        assert beam.fat < beam.gland < beam.apatite / 5
    assert hard.fat < soft.fat
    assert hard.apatite / soft.apatite < hard.gland / soft.gland < hard.fat / soft.fat
    at_20 = Beam.of((20 - 12.9) / 0.25, 45)
    assert (at_20.fat, at_20.gland) == pytest.approx((0.0456, 0.0802))


def test_a_grid_takes_scatter_away_and_thickness_brings_more() -> None:
    assert Beam.of(29, 60).scatter > Beam.of(29, 40).scatter
    assert Beam.of(29, 60, has_grid=False).scatter > 2 * Beam.of(29, 60).scatter


def _ball_on(thickness_mm: float, receptor: Receptor = SHARP, diameter_mm: float = 0.4) -> Picture:
    """A ball of apatite on an even breast."""
    shape = (96, 96)
    scene = Scene(
        receptor.pitch_mm, thickness_mm, np.full(shape, thickness_mm, np.float32), np.zeros(shape, np.float32)
    )
    step = diameter_mm / 40
    line = np.arange(-22, 23) / 20
    chord = np.sqrt(np.clip(1 - line[:, None] ** 2 - line[None] ** 2, 0, None)) * diameter_mm
    scene.lay(Particle("round", chord.astype(np.float32), step, diameter_mm, diameter_mm), (48.5, 40.5))
    return picture(np.random.default_rng(0), scene, receptor, 29, None, 0.0)


def test_contrast_is_that_of_the_beam() -> None:
    """Less than mu times thickness by scatter and blur, more than half of it for a grain of eight pixels."""
    made = _ball_on(45)
    full = Beam.of(29, 45).apatite * 0.4
    assert 0.5 * full < made.grains[0].contrast < full
    log = -np.log(made.exposure)
    assert log[40, 48] - np.median(log) == pytest.approx(made.grains[0].contrast, rel=0.1)


def test_contrast_falls_with_the_breasts_thickness_and_grows_with_the_grains() -> None:
    by_breast = [_ball_on(thickness).grains[0].contrast for thickness in (25, 45, 70)]
    assert by_breast == sorted(by_breast, reverse=True)
    by_grain = [_ball_on(45, diameter_mm=diameter).grains[0].contrast for diameter in (0.15, 0.3, 0.6)]
    assert by_grain == sorted(by_grain)


def test_noise_is_that_of_the_quanta() -> None:
    receptor = replace(SHARP, quanta=2e5, electronic=0.0)
    exposure = _ball_on(45, receptor).exposure[60:]
    assert exposure.std() / exposure.mean() == pytest.approx(receptor.relative_noise(float(exposure.mean())), rel=0.1)
    more = _ball_on(45, replace(receptor, quanta=8e5)).grains[0]
    assert more.snr == pytest.approx(2 * _ball_on(45, receptor).grains[0].snr, rel=0.05)


def test_a_scintillator_blurs_more_than_selenium() -> None:
    blurred = _ball_on(45, Receptor("scintillator", 0.05, half_mtf=4, quanta=1e9), 0.2).grains[0]
    assert blurred.contrast < 0.8 * _ball_on(45, diameter_mm=0.2).grains[0].contrast


def test_film_shows_dense_tissue_bright() -> None:
    receptor = Receptor("film", 0.1, half_mtf=7, quanta=1e6, bits=8)
    made = _ball_on(45, receptor, 0.8)
    assert made.pixels[40, 48] > np.median(made.pixels) + 0.1
    assert np.allclose(made.pixels * 255, np.rint(made.pixels * 255), atol=1e-3)


# ---- texture


@pytest.mark.parametrize("beta", [2.0, 3.0, 4.0])
def test_the_spectrum_has_the_slope_asked_for(beta: float) -> None:
    (field,) = fields(np.random.default_rng(1), (512, 512), 0.1, [power_law(beta, 1000)])
    window = np.outer(np.hanning(512), np.hanning(512))
    power = np.abs(np.fft.fft2((field - field.mean()) * window)) ** 2
    axis = np.fft.fftfreq(512, 0.1)
    frequency = np.hypot(axis[:, None], axis[None])
    band = (frequency > 0.15) & (frequency < 3)
    slope = np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0]
    assert slope == pytest.approx(-beta, abs=0.25)


def test_tissue_has_the_spectrum_of_mammograms() -> None:
    """1/f^beta with beta about 3 (Burgess 2001); here with noise and processing."""
    slopes = []
    for seed in range(6):
        plain = CropOptions("selenium", 0.1, "C", group_odds=0, benign_odds=0, mimic_odds=0)
        pixels = make_crop(np.random.default_rng(100 + seed), 256, plain).pixels
        window = np.outer(np.hanning(256), np.hanning(256))
        power = np.abs(np.fft.fft2((pixels - pixels.mean()) * window)) ** 2
        axis = np.fft.fftfreq(256, 0.1)
        frequency = np.hypot(axis[:, None], axis[None])
        band = (frequency > 0.15) & (frequency < 1)
        slopes.append(-np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0])
    assert 2.4 < np.median(slopes) < 3.8


def test_a_stretched_field_runs_along_its_grain() -> None:
    (field,) = fields(np.random.default_rng(2), (256, 256), 0.1, [power_law(3, 10)], Grain(0.0, 3.0))
    along, across = np.diff(field, axis=1).std(), np.diff(field, axis=0).std()
    assert across > 2 * along


@given(st.floats(1, 30), st.floats(1, 20), st.floats(0.1, 5))
@settings(deadline=None)
def test_what_is_splat_is_kept(column: float, row: float, amount: float) -> None:
    canvas = np.zeros((22, 32), np.float32)
    splat(canvas, np.array([[column, row]]), np.array([amount]))
    assert canvas.sum() == pytest.approx(amount, rel=1e-5)
    rows, columns = np.indices(canvas.shape) + 0.5
    assert (canvas * columns).sum() / amount == pytest.approx(column, abs=1e-3)
    assert (canvas * rows).sum() / amount == pytest.approx(row, abs=1e-3)


def test_a_line_holds_what_it_should_in_its_middle() -> None:
    canvas = np.zeros((40, 80), np.float32)
    line = np.stack([np.linspace(-20, 100, 300), np.full(300, 20.5)], -1)
    draw(canvas, [(line, np.full(300, 2.0))], 2.0)
    assert canvas[20, 40] == pytest.approx(2.0, rel=0.03)
    before = canvas.copy()
    draw(canvas, [(line + 500, np.full(300, 2.0))], 2.0)  # beside the image
    assert (canvas == before).all()


def test_enlarging_keeps_slopes_where_they_were() -> None:
    ramp = np.arange(32, dtype=np.float32)[None].repeat(16, 0)
    back = enlarged(halved(ramp), (16, 32))
    assert np.allclose(back[:, 1:-1], ramp[:, 1:-1], atol=1e-4)


# ---- calcifications


@pytest.mark.parametrize("shape", get_args(Shape))
@pytest.mark.parametrize("from_side", [False, True])
def test_a_particle_is_as_long_as_asked(shape: Shape, from_side: bool) -> None:
    for seed in range(4):
        generator = np.random.default_rng(seed)
        length = random_length(generator, shape)
        made = particle(generator, shape, length, 0.0, from_side)
        assert 0 < made.thickness.max() <= 2 * length
        assert (made.thickness >= 0).all()
        assert np.isfinite(made.thickness).all()
        seen = made.thickness > 0.1 * made.thickness.max()
        extent = max(np.ptp(np.nonzero(seen)[0]), np.ptp(np.nonzero(seen)[1])) * made.step_mm
        assert 0.3 * length < extent < 2.2 * length
        border = np.concatenate([made.thickness[0], made.thickness[-1], made.thickness[:, 0], made.thickness[:, -1]])
        assert border.max() <= 0.25 * made.thickness.max()


def test_skin_calcifications_and_rims_are_hollow() -> None:
    for shape, length in (("skin", 1.0), ("rim", 6.0)):
        shell = particle(np.random.default_rng(3), shape, length)  # type: ignore[arg-type]  # both are shapes
        middle = shell.thickness[tuple(side // 2 for side in shell.thickness.shape)]
        assert middle < 0.7 * shell.thickness.max()


def test_milk_of_calcium_is_level_from_the_side() -> None:
    cup = particle(np.random.default_rng(4), "milk_of_calcium", 1.0, from_side=True).thickness
    rows = np.flatnonzero(cup.max(axis=1) > 0)
    assert rows[0] >= len(cup) // 2  # it fills the lower half
    widest = (cup > 0).sum(axis=1)
    assert widest[rows[0] + 4] > widest[rows[-1]]


@given(
    st.integers(0, 2**32), st.sampled_from(tuple(GROUPED)),
    st.sampled_from(["grouped", "linear", "segmental", "regional", "diffuse", None]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_groups_are_as_their_names_say(seed: int, morphology: str, distribution: str | None) -> None:
    made = random_group(np.random.default_rng(seed), morphology, distribution, 40.0)  # type: ignore[arg-type]
    assert 3 <= len(made.shapes) <= 60
    assert made.offsets_mm.shape == (len(made.shapes), 3)
    assert np.abs(made.offsets_mm).max() <= 41
    assert made.morphology == morphology
    assert distribution in {None, made.distribution}
    assert made.is_suspicious >= (made.morphology in SUSPICIOUS)
    if made.distribution == "linear":
        spread = np.linalg.svd(made.offsets_mm - made.offsets_mm.mean(0), compute_uv=False)
        assert spread[0] > 2 * spread[1]


@given(st.floats(0, 19.99), st.floats(0, 19.99), st.floats(0.05, 1.5))
@settings(deadline=None)
def test_a_stamp_keeps_the_amount_that_lies_on_the_image(column: float, row: float, scale: float) -> None:
    fine = np.ones((9, 9), np.float32)
    box, values = stamped(fine, scale, (column, row), (20, 20))
    half = 4.5 * scale

    def covered(at: float) -> float:
        return max(0.0, min(20.0, at + half) - max(0.0, at - half))

    assert values.shape == (box[0].stop - box[0].start, box[1].stop - box[1].start)
    assert values.sum() == pytest.approx(covered(column) * covered(row), rel=1e-3, abs=1e-3)


def test_an_outline_holds_its_discs() -> None:
    points = np.array([[10.0, 10.0], [30.0, 12.0]])
    outline = np.array(outline_about(points, np.array([3.0, 5.0])))
    assert outline[:, 0].min() == pytest.approx(7, abs=0.2)
    assert outline[:, 0].max() == pytest.approx(35, abs=0.3)


# ---- crops


def _visible(crop: MadeCrop) -> list[bool]:
    """For each plain grain that should stand out: whether its place is brighter than its surroundings."""
    found = []
    for grain in crop.grains:
        column, row = (int(value) for value in grain.center_px)
        reach = max(2, int(grain.length_mm / crop.pitch_mm))
        plain = grain.shape in {"round", "punctate", "fine_pleomorphic", "coarse_heterogeneous"}
        inside = min(column, row) >= 3 * reach and max(column, row) < len(crop.pixels) - 3 * reach
        if plain and inside and grain.snr > 30:
            about = crop.pixels[row - 3 * reach : row + 3 * reach + 1, column - 3 * reach : column + 3 * reach + 1]
            at = crop.pixels[row - 1 : row + 2, column - 1 : column + 2]
            found.append(float(at.max()) > float(np.median(about)) + 0.2 * float(about.std()))
    return found


@pytest.mark.parametrize("medium", ["selenium", "scintillator", "film"])
def test_grains_lie_where_the_truth_says(medium: str) -> None:
    options = CropOptions(medium, group_odds=1, mimic_odds=0, benign_odds=0)  # type: ignore[arg-type]
    seen = [hit for seed in range(8) for hit in _visible(make_crop(np.random.default_rng(seed), 256, options))]
    assert len(seen) >= 12
    assert np.mean(seen) > 0.9


def test_a_crop_is_a_picture_with_its_truth() -> None:
    crop = make_crop(np.random.default_rng(7), 128, CropOptions(group_odds=1, benign_odds=1, mimic_odds=1))
    assert crop.pixels.shape == (128, 128)
    assert crop.pixels.dtype == np.float32
    assert (crop.pixels.min() >= 0, crop.pixels.max() <= 1) == (True, True)
    for grain in crop.grains:
        assert (np.array(grain.center_px) >= 0).all()
        assert (np.array(grain.center_px) < 128).all()
        assert np.allclose(np.array(grain.center_px) * crop.pitch_mm, grain.center_mm)
        assert grain.group is None or grain.group < len(crop.groups)
    for k, group in enumerate(crop.groups):
        assert group.count == sum(grain.group == k for grain in crop.grains) >= 2


def test_the_same_seed_gives_the_same_crop_and_another_another() -> None:
    first, again, other = (make_crop(np.random.default_rng(seed), 128) for seed in (5, 5, 6))
    assert (first.pixels == again.pixels).all()
    assert first.grains == again.grains
    assert (first.pixels != other.pixels).any()


def test_coarse_pitches_are_films_and_options_are_kept() -> None:
    for seed in range(6):
        assert make_crop(np.random.default_rng(seed), 64, CropOptions(pitch_mm=0.2)).medium == "film"
        crop = make_crop(np.random.default_rng(seed), 64, CropOptions(group_odds=0, benign_odds=0))
        assert (crop.grains, crop.groups) == ((), ())


@pytest.mark.parametrize("kind", [kind for kind, _ in (*IN_BREAST, *ON_FILM, *ON_DETECTOR)])
def test_every_lookalike_shows_and_is_no_calcification(kind: str) -> None:
    for place in ((60.0, 60.0), (2.0, 118.0)):
        scene = Scene(0.1, 50, np.full((120, 120), 50, np.float32), np.full((120, 120), 10, np.float32))
        add_mimic(np.random.default_rng(1), scene, kind, np.array(place))  # type: ignore[arg-type]
        marks = np.zeros_like(scene.gland) if scene.marks is None else scene.marks
        assert (scene.gland != 10).any() or scene.metal.any() or marks.any()
        assert not scene.apatite.any()
        assert [mimic.kind for mimic in scene.mimics] == [kind]
        assert np.isfinite(scene.gland).all()
        assert (scene.gland <= scene.thickness).all()


# ---- processing


def test_enhancement_lifts_detail_and_without_gain_changes_nothing() -> None:
    image = np.random.default_rng(0).standard_normal((65, 90)).astype(np.float32)
    plain = enhanced(image, Processing(gains=(1.0,) * 4, power=1.0))
    assert np.allclose(plain, image, atol=1e-4)
    lifted = enhanced(image, Processing(gains=(2.0,) * 4, power=1.0))
    assert lifted.std() > 1.7 * image.std()


@given(st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_the_curve_never_falls(first: float, bend: float) -> None:
    processing = Processing(bend=bend)
    values = curved(np.array([first, first + 0.1], np.float32), 0.0, 1.0, processing)
    assert values[0] <= values[1]


# ---- whole breasts


@pytest.fixture(scope="module")
def breast() -> MadeBreast:
    options = replace(
        BreastOptions.random(np.random.default_rng(3), "R", "C"),
        groups=(GroupRecipe("coarse_heterogeneous", "grouped"),),
        benign=("round", "vascular"),
        lesions=1,
    )
    return make_breast(np.random.default_rng(4), options)


@pytest.fixture(scope="module")
def views(breast: MadeBreast) -> dict[str, MadeView]:
    receptor = Receptor("selenium", COARSE, half_mtf=8, quanta=2e5)
    return {
        view: make_view(np.random.default_rng(5), breast, ViewOptions(view, receptor, Processing()))
        for view in ("CC", "MLO")
    }  # fmt: skip


def test_denser_breasts_hold_more_gland() -> None:
    parts = []
    for density in DENSITIES:
        found = []
        for seed in range(4):
            made = make_breast(
                np.random.default_rng(seed), BreastOptions.random(np.random.default_rng(seed), "L", density)
            )
            found.append(float(made.gland.mean()) * made.options.tissue.base)
        parts.append(np.mean(found))
    assert parts == sorted(parts)


def test_both_views_show_the_same_group_at_the_same_depth(views: dict[str, MadeView]) -> None:
    depths = []
    for view in views.values():
        (group,) = [g for g in view.picture.groups if g.morphology == "coarse_heterogeneous"]
        mirrored = view.picture.pixels.shape[1] - np.array([group.center_px[0], view.nipple_px[0]])
        column, nipple = mirrored * COARSE
        row = (group.center_px[1] - view.nipple_px[1]) * COARSE
        tilt = view.projection.tilt
        depths.append(((nipple - column) * np.cos(tilt) - row * np.sin(tilt)) / view.projection.depth)
    assert depths[0] == pytest.approx(depths[1], abs=0.06)
    numbers = [{g.number for g in view.picture.grains if g.group is not None} for view in views.values()]
    assert len(numbers[0] & numbers[1]) > 0.7 * max(len(each) for each in numbers)


def test_a_view_has_chest_wall_nipple_and_muscle_where_they_belong(views: dict[str, MadeView]) -> None:
    for name, view in views.items():
        rows, columns = view.picture.pixels.shape
        assert view.breast[:, -1].mean() > 0.25  # the chest wall of a right breast is at the right border
        assert not view.breast[:, 0].any()
        column, row = (int(value) for value in view.nipple_px)
        assert view.breast[row, column + int(4 / COARSE)]
        assert not view.breast[row, column - int(12 / COARSE)]
        assert view.picture.pixels[view.breast].mean() > 0.1
        assert view.picture.pixels[int(0.5 * rows), : int(0.05 * columns)].max() == 0
        if name == "MLO":
            (top, first), *_, (bottom, last) = view.muscle_px
            assert (first < last, top < bottom) == (True, True)
    assert views["CC"].muscle_px == () or views["CC"].projection.muscle[0] > 0


def test_thickness_falls_to_the_skin(views: dict[str, MadeView]) -> None:
    """Before processing: what lies near the skin line takes less from the beam."""
    view = views["CC"]
    row = int(view.nipple_px[1]) - int(15 / COARSE)
    inside = np.flatnonzero(view.breast[row])
    exposure = view.picture.exposure[row, inside]
    assert np.median(exposure[:8]) > 2 * np.median(exposure[len(inside) // 2 :])


# ---- the study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> MadeBreastStudy:
    recipes = (SidedRecipe("L", GroupRecipe("coarse_heterogeneous", "grouped")),)
    options = BreastStudyOptions(seed=2, groups=0, recipes=recipes, pitch_mm=COARSE, benign=("round",))
    return make_study(tmp_path_factory.mktemp("breast"), options)


def test_a_study_is_read_as_four_views(study: MadeBreastStudy) -> None:
    read = load_study(study.files)
    assert [view.name for view in read.views] == ["R CC", "L CC", "R MLO", "L MLO"]
    assert (read.refused, read.warnings) == ((), ())
    for view, made in zip(read.views, study.views, strict=True):
        assert view.chest_wall == ("right" if view.laterality == "R" else "left")
        assert view.spacing.detector_mm == pytest.approx(COARSE)
        assert view.scale == "presented"
        assert view.warnings == ()
        inside = made.breast & ~view.outside
        assert inside.sum() > 0.99 * made.breast.sum()
        assert np.corrcoef(view.pixels[inside], made.picture.pixels[inside])[0, 1] > 0.99


def test_the_truth_is_written_beside_it(study: MadeBreastStudy) -> None:
    truth = json.loads((study.files[0].parent / "truth.json").read_text())
    assert truth == json.loads(json.dumps(study.truth))
    assert [group["laterality"] for group in truth["groups"]] == ["L"]
    headers = [dcmread(path, stop_before_pixels=True) for path in study.files]
    assert [view["sop_instance_uid"] for view in truth["views"]] == [header.SOPInstanceUID for header in headers]
    assert len({header.StudyInstanceUID for header in headers}) == 1
    for view in truth["views"]:
        shown = [group["morphology"] for group in view["groups"]]
        assert shown == (["coarse_heterogeneous"] if view["view"].startswith("L") else [])
        grains = {grain["number"] for grain in view["grains"] if grain["group"] is not None}
        assert len(grains) == sum(group["count"] for group in view["groups"])


def test_patient_orientation_tells_chest_wall_and_feet(study: MadeBreastStudy) -> None:
    told = [list(dcmread(path, stop_before_pixels=True).PatientOrientation) for path in study.files]
    assert told == [["P", "L"], ["A", "R"], ["P", "FL"], ["A", "FR"]]


def test_the_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    options = BreastStudyOptions(seed=6, pitch_mm=COARSE, views=("L CC",))
    first = make_study(tmp_path / "a", options).files[0].read_bytes()
    assert first == make_study(tmp_path / "b", options).files[0].read_bytes()
    assert first != make_study(tmp_path / "c", replace(options, seed=7)).files[0].read_bytes()


@pytest.mark.parametrize(
    "changes", [{"is_for_processing": True}, {"voi": "lut"}, {"voi": "sigmoid", "detector": "scintillator"}, {}]
)
def test_every_kind_of_image_is_valid_and_read(tmp_path: Path, changes: dict[str, object]) -> None:
    options = replace(BreastStudyOptions(seed=8, pitch_mm=COARSE, views=("R MLO",)), **changes)  # type: ignore[arg-type]
    made = make_study(tmp_path, options)
    (view,) = load_study(made.files).views
    assert view.scale == ("attenuation" if options.is_for_processing else "presented")
    inside = made.views[0].breast & ~view.outside
    assert view.pixels[inside].mean() > view.pixels[~made.views[0].breast].mean() + 0.05
    if shutil.which("dciodvfy") is not None:
        done = subprocess.run(["dciodvfy", "-new", str(made.files[0])], capture_output=True, text=True, check=False)
        assert (done.returncode, "Error" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize(
    "changes",
    [
        {"groups": 30}, {"groups": -1}, {"lesions": 99}, {"pitch_mm": 1.0}, {"dose": 0.0}, {"views": ()},
        {"views": ("R CC", "R CC")}, {"study_date": "20251341"},
    ],
)  # fmt: skip
def test_what_no_unit_makes_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"groups|lesions|pitch|dose|view|month|isoformat"):
        make_study(tmp_path, replace(BreastStudyOptions(), **changes))  # type: ignore[arg-type]
