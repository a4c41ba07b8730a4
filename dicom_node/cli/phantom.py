"""`triage-node phantom`: made studies with their truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click
from rich.progress import Progress

from dicom_node.cli.common import errors, print_json, say, with_json
from pipelines.phantom.breast.anatomy import BENIGN, DENSITIES, GroupRecipe
from pipelines.phantom.breast.calcifications import GROUPED
from pipelines.phantom.breast.mimics import LOOKALIKES
from pipelines.phantom.breast.study import SIDES, VIEWS, BreastStudyOptions, Detector, SidedRecipe, Voi
from pipelines.phantom.breast.study import make_study as make_breast_study
from pipelines.phantom.breast.truth import DISTRIBUTIONS
from pipelines.phantom.chest.nodules import KINDS, POSITIONS, NoduleRecipe
from pipelines.phantom.chest.study import ChestStudyOptions
from pipelines.phantom.chest.study import make_study as make_chest_study
from pipelines.phantom.head import bleeds
from pipelines.phantom.head.study import PhantomOptions, make_study
from pipelines.phantom.images import Kernel, PatientPosition
from pipelines.phantom.images import Progress as Heard


def _recipes(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[NoduleRecipe, ...]:
    return tuple(_recipe(value) for value in values)


def _recipe(value: str) -> NoduleRecipe:
    kind, _, rest = value.partition(":")
    diameter, _, position = rest.partition(":")
    position = position or "intrapulmonary"
    if kind not in KINDS or position not in POSITIONS:
        kinds, positions = ", ".join(KINDS), ", ".join(POSITIONS)
        raise click.BadParameter(f"{value!r}: the kind is one of {kinds}, the position one of {positions}")
    try:
        return NoduleRecipe(kind, position, float(diameter))
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: the diameter is a number of millimetres") from error


def _groups(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[SidedRecipe, ...]:
    return tuple(_group(value) for value in values)


def _group(value: str) -> SidedRecipe:
    side, _, rest = value.partition(":")
    morphology, _, distribution = rest.partition(":")
    distribution = distribution or "grouped"
    if side not in SIDES or morphology not in GROUPED or distribution not in DISTRIBUTIONS:
        raise click.BadParameter(
            f"{value!r}: the side is R or L, the morphology one of {', '.join(GROUPED)}, "
            f"the distribution one of {', '.join(DISTRIBUTIONS)}"
        )
    return SidedRecipe(side, GroupRecipe(morphology, distribution))


def _views(_context: click.Context, _option: click.Parameter, value: str) -> tuple[str, ...]:
    names = {name.replace(" ", ""): name for name in VIEWS}
    wanted = [view.strip().upper() for view in value.split(",")]
    if unknown := [view for view in wanted if view not in names]:
        raise click.BadParameter(f"{', '.join(unknown)}: the views are {', '.join(names)}")
    return tuple(names[view] for view in wanted)


_KERNEL = click.Choice(get_args(Kernel))


@click.group()
def phantom() -> None:
    """Made studies: valid DICOM with known truth (`truth.json`), for trying, testing and the demonstration."""


@phantom.command()
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write to.")
@click.option("--seed", default=0, show_default=True, help="The same seed and options give the same bytes.")
@click.option(
    "--bleed",
    type=click.Choice(("none", *get_args(bleeds.Kind))),
    default="none",
    show_default=True,
    help="Kind of bleed.",
)
@click.option("--volume-ml", default=30.0, show_default=True, help="Volume of the bleed.")
@click.option("--tilt", "tilt_degrees", default=0.0, show_default=True, metavar="DEG", help="Gantry tilt.")
@click.option("--variable-spacing", "has_variable_spacing", is_flag=True, help="4 mm slices at the base, 7 mm above.")
@click.option("--slice-mm", default=5.0, show_default=True, help="Thickness and spacing of the slices.")
@click.option(
    "--kernel", type=_KERNEL, default="standard", show_default=True, help="Reconstruction kernel: sharpness and noise."
)
@click.option("--pixels", default=512, show_default=True, type=click.IntRange(64, 1024), help="Rows and columns.")
@with_json
def head(*, out: Path, as_json: bool, **options: Any) -> None:
    """Make a head CT, with or without a bleed."""
    with Progress(console=errors, transient=True) as bar:
        try:
            made = make_study(out, PhantomOptions(**options), _heard(bar, "Making a head"))
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    _tell(out, len(made.files), made.truth, as_json)


@phantom.command()
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write to.")
@click.option("--seed", default=0, show_default=True, help="The same seed and options give the same bytes.")
@click.option("--nodules", default=3, show_default=True, type=click.IntRange(0, 50), help="How many random nodules.")
@click.option(
    "--nodule",
    "recipes",
    multiple=True,
    callback=_recipes,
    metavar="KIND:MM[:POSITION]",
    help="A nodule to make besides, such as part_solid:12 or solid:6:juxtapleural; can be repeated.",
)
@click.option(
    "--growth",
    type=float,
    metavar="FACTOR",
    help="The later study of a pair: the same chest in another pose, its nodules' volumes times FACTOR.",
)
@click.option("--slice-mm", default=1.0, show_default=True, help="Thickness and spacing of the slices.")
@click.option(
    "--kernel", type=_KERNEL, default="standard", show_default=True, help="Reconstruction kernel: sharpness and noise."
)
@click.option("--dose", default=1.0, show_default=True, help="Times the usual one; less gives more noise.")
@click.option(
    "--position", type=click.Choice(get_args(PatientPosition)), default="HFS", show_default=True, help="On the table."
)
@click.option("--contrast", "has_contrast", is_flag=True, help="With contrast medium.")
@click.option("--padding", "has_padding", is_flag=True, help="-2000 outside of a round field of view.")
@click.option("--field-mm", default=0.0, help="Side of the images; by default one that holds the body.")
@click.option("--date", "study_date", default="", metavar="YYYYMMDD", help="Study date.")
@click.option("--pixels", default=512, show_default=True, type=click.IntRange(64, 1024), help="Rows and columns.")
@with_json
def chest(*, out: Path, as_json: bool, **options: Any) -> None:
    """Make a chest CT with nodules."""
    with Progress(console=errors, transient=True) as bar:
        try:
            made = make_chest_study(out, ChestStudyOptions(**options), _heard(bar, "Making a chest"))
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    _tell(out, len(made.files), made.truth, as_json)


@phantom.command()
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write to.")
@click.option("--seed", default=0, show_default=True, help="The same seed and options give the same bytes.")
@click.option(
    "--groups",
    default=1,
    show_default=True,
    type=click.IntRange(0, 20),
    help="How many random groups of calcifications.",
)
@click.option(
    "--group",
    "recipes",
    multiple=True,
    callback=_groups,
    metavar="SIDE:MORPHOLOGY[:DISTRIBUTION]",
    help="A group to make besides, such as R:fine_pleomorphic or L:punctate:segmental; can be repeated.",
)
@click.option("--density", type=click.Choice(DENSITIES), help="BI-RADS category; by default left to chance.")
@click.option(
    "--benign",
    multiple=True,
    type=click.Choice(BENIGN),
    help="What else is calcified in both breasts; can be repeated.",
)
@click.option("--lesions", default=0, show_default=True, help="Cysts, masses and lymph nodes in each breast.")
@click.option(
    "--lookalike",
    "lookalikes",
    multiple=True,
    type=click.Choice(LOOKALIKES),
    help="What each view shows that only looks like calcification; can be repeated.",
)
@click.option("--views", default="RCC,LCC,RMLO,LMLO", show_default=True, callback=_views, help="Which views.")
@click.option(
    "--detector", type=click.Choice(get_args(Detector)), default="selenium", show_default=True, help="Kind of detector."
)
@click.option("--pitch-mm", default=0.0, help="Side of a pixel; by default the detector's.")
@click.option("--dose", default=1.0, show_default=True, help="Times the usual one; less gives more noise.")
@click.option("--for-processing", "is_for_processing", is_flag=True, help="Raw images instead of those to be shown.")
@click.option(
    "--voi", type=click.Choice(get_args(Voi)), default="window", show_default=True, help="How images say to be shown."
)
@click.option("--nipple-markers", "has_nipple_markers", is_flag=True, help="With a ball of lead at the nipple.")
@click.option("--date", "study_date", default="20250101", show_default=True, metavar="YYYYMMDD", help="Study date.")
@with_json
def breast(*, out: Path, as_json: bool, **options: Any) -> None:
    """Make a mammography study with groups of calcifications."""
    with Progress(console=errors, transient=True) as bar:
        try:
            made = make_breast_study(out, BreastStudyOptions(**options), _heard(bar, "Making two breasts"))
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    _tell(out, len(made.files), made.truth, as_json)


def _heard(bar: Progress, what: str) -> Heard:
    task = bar.add_task(what, total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)


def _tell(out: Path, files: int, truth: dict[str, object], as_json: bool) -> None:
    if as_json:
        print_json(truth)
    else:
        say(f"Wrote {files} images and truth.json to {out}.")
