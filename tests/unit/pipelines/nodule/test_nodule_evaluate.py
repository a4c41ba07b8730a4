from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dicom_node.cli.main import main
from pipelines.findings import Region
from pipelines.geometry import Point
from pipelines.nodule.character import Character
from pipelines.nodule.evaluate import evaluate, rated_composition
from pipelines.nodule.measure import Measures
from pipelines.nodule.patches import Row, read_index, read_patch
from pipelines.reasons import Refusal
from pipelines.volume import Volume
from tests.unit.pipelines.nodule.nodules import ROW, region, write_folder


class Thresholding:
    """Takes what is denser than lung and calls it what it is told to."""

    def __init__(self, composition: str = "solid") -> None:
        self.said = Character(composition, {"solid": 1.0}, "none", 0.7)

    def outline(self, volume: Volume, center: Point) -> Region:
        return region(volume.hu > -400)

    def characterize(self, volume: Volume, region: Region, measures: Measures) -> Character:
        return self.said


def rows(count: int) -> list[dict[str, str]]:
    names = [f"P{number}" for number in range(count)]
    return [{**ROW, "nodule_id": f"{name}_1", "patient_id": name, "file": f"nodules/{name}_1.npz"} for name in names]


def test_a_patch_lies_where_its_affine_says_and_holds_each_reader(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "patches", rows(1))
    patch = read_patch(folder, read_index(folder)[0])
    assert len(patch.marks) == 3
    # the affine is RAS: index (22, 22, 4) is at -(10 + 22 x 0.7), -(20 + 22 x 0.7), 30 + 4 x 1.25
    assert patch.volume.patient_from_voxel(4, 22, 22) == pytest.approx((-25.4, -35.4, 35.0))
    assert np.array_equal(patch.consensus, patch.marks[1])
    assert patch.share.max() == 1
    assert (np.diff(patch.volume.position_mm) > 0).all()


def test_what_agrees_with_the_consensus_has_no_error_and_readers_have_theirs(tmp_path: Path) -> None:
    report = evaluate(write_folder(tmp_path / "patches", rows(3)), Thresholding(), frozenset({"P0", "P9"})).as_json()
    assert report["volume_error_median_percent"] == 0
    assert report["long_axis_error_median_mm"] == 0
    assert report["dice_mean"] == 1
    # readers of 3, 3.5 and 4 mm: (1 - (3 / 3.5)^3 + (4 / 3.5)^3 - 1) / 3
    assert report["reader_volume_spread_median_percent"] == pytest.approx(28.7, abs=4)
    assert report["type_accuracy"] == 1
    assert report["type_recall"] == {"solid": 1.0, "part_solid": None, "ground_glass": None}
    assert report["malignancy_auc"] is None
    assert report["nodules"] == len(report["cases"]) == 3
    assert "1 of these 3 patients have taught" in report["note"]
    json.dumps(report)


def test_a_wrong_composition_counts(tmp_path: Path) -> None:
    made = rows(2)
    made[1]["texture_ratings"] = "1;2;1"
    report = evaluate(write_folder(tmp_path / "patches", made), Thresholding(), frozenset()).as_json()
    assert report["type_accuracy"] == 0.5
    assert report["type_recall"]["ground_glass"] == 0
    assert report["type_balanced_accuracy"] == 0.5
    assert report["note"].startswith("None of these patients")


@pytest.mark.parametrize(
    ("texture", "expected"),
    [
        ((5, 5, 4), "solid"),
        ((4, 4, 4), "solid"),
        ((4, 4, 3), "part_solid"),
        ((2, 2, 2), "ground_glass"),
        ((3, 2), "part_solid"),
    ],
)
def test_the_rated_composition(texture: tuple[int, ...], expected: str) -> None:
    assert rated_composition(Row("", "", "", 3, texture, (), (), True)) == expected


def test_nodules_whose_readers_are_not_known_are_left_out(tmp_path: Path) -> None:
    made = rows(2)
    made[0] |= {"flags": "in_plane_axes_flipped;reader_masks_unmatched", "n_readers": ""}
    assert [row.nodule_id for row in read_index(write_folder(tmp_path / "patches", made))] == ["P1_1"]


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda folder: (folder / "index.csv").unlink(), "index.csv is missing"),
        (lambda folder: (folder / "index.csv").write_text("a,b\n1,2\n"), "lacks the columns"),
        (lambda folder: (folder / "index.csv").write_text(""), "no rows"),
        (lambda folder: (folder / "index.csv").write_bytes(b"\xff\xfe\x00"), "cannot be read"),
        (lambda folder: (folder / "nodules/P0_1.npz").write_bytes(b"PK\x03\x04"), "cannot be read"),
        (lambda folder: (folder / "nodules/P0_1.npz").unlink(), "cannot be read"),
        (
            lambda folder: np.savez(folder / "nodules/P0_1.npz", image=np.zeros((2, 2)), masks=0, affine=0),
            "has not the",
        ),
    ],
)
def test_a_folder_of_another_form_is_refused(tmp_path: Path, spoil: object, text: str) -> None:
    folder = write_folder(tmp_path / "patches", rows(1))
    spoil(folder)
    with pytest.raises(Refusal, match=text):
        evaluate(folder, Thresholding(), frozenset())


def test_the_number_of_readers_must_be_right(tmp_path: Path) -> None:
    made = rows(1)
    made[0]["n_readers"] = "4"
    with pytest.raises(Refusal, match="marks of 3 readers"):
        evaluate(write_folder(tmp_path / "patches", made), Thresholding(), frozenset())


def test_the_command_gives_json(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "patches", rows(2))
    answer = CliRunner().invoke(main, ["evaluate", "nodule", str(folder), "--json"])
    assert answer.exit_code == 0, answer.output
    report = json.loads(answer.stdout)
    assert report["volume_error_median_percent"] < 60
    assert {"reader_volume_spread_median_percent", "type_recall", "cases", "long_axis_error_median_mm"} <= set(report)
    shown = CliRunner().invoke(main, ["evaluate", "nodule", str(folder)])
    assert shown.exit_code == 0
    assert "volume error" in shown.output
