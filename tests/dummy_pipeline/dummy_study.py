"""A pipeline for tests that reads whole studies: every view with a laterality, in which it finds what it is told to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
from pydicom import Dataset, dcmread

from pipelines import codes
from pipelines.catalogue import PipelineSettings, Prior, Reader, Reading
from pipelines.findings import Finding, Measurement, ModelIdentity, Outcome, Outline
from pipelines.mammogram import Laterality, Mammogram, MammogramStudy, Projection, RefusedView, Spacing
from pipelines.reasons import Reason
from pipelines.uids import derived_uid

MODEL = ModelIdentity("dummy_study", "1", "0" * 64)


class DummyStudySettings(PipelineSettings):
    answer: Literal["clean", "finding"] = "clean"
    marker: Path = Path("unused")
    """While this file exists, its reader waits; it says first that it does in one of the same name with `.waits`."""


class DummyStudyReader:
    model = MODEL

    def __init__(self, settings: DummyStudySettings) -> None:
        self._settings = settings

    def read(self, paths: Sequence[Path], prior: Prior | None = None) -> Reading:
        while self._settings.marker.exists():
            self._settings.marker.with_suffix(".waits").touch()
            time.sleep(0.01)
        images = sorted((dcmread(path) for path in paths), key=lambda image: str(image.SOPInstanceUID))
        views = tuple(_view(image) for image in images if image.get("ImageLaterality"))
        refused = tuple(
            RefusedView(str(image.SOPInstanceUID), Reason("input.missing_attribute", {"keyword": "ImageLaterality"}))
            for image in images
            if not image.get("ImageLaterality")
        )
        study = MammogramStudy(views, refused)
        if not views:
            return Reading(Outcome("not_read", reason=refused[0].reason, model=MODEL), study=study)
        headers = tuple(view.header for view in views)
        if self._settings.answer == "clean":
            return Reading(Outcome("clean", 0.1, model=MODEL), headers=headers, study=study)
        return Reading(Outcome("finding", 0.9, (_finding(views[0]),), model=MODEL), headers=headers, study=study)


def _view(image: Dataset) -> Mammogram:
    pixels = image.pixel_array.astype(np.float32) / np.float32(4095)
    header = Dataset({element.tag: element for element in image if element.keyword != "PixelData"})
    return Mammogram(
        instance_uid=str(image.SOPInstanceUID),
        laterality=cast("Laterality", image.ImageLaterality),
        projection=cast("Projection", image.ViewPosition),
        modifiers=frozenset(),
        pixels=pixels,
        outside=np.zeros(pixels.shape, np.bool_),
        scale="presented",
        spacing=Spacing(0.07, 0.07, "detector"),
        chest_wall="right" if image.ImageLaterality == "R" else "left",
        has_implant=False,
        header=header,
    )


def _finding(view: Mammogram) -> Finding:
    points = ((10.0, 10.0), (30.0, 10.0), (30.0, 30.0), (10.0, 30.0))
    return Finding(
        kind=codes.CALCIFICATION_CLUSTER,
        label=codes.CALCIFICATION_CLUSTER.meaning,
        certainty=0.9,
        region=Outline(view.instance_uid, points, ((15.0, 15.0), (20.0, 20.0), (25.0, 25.0))),
        center_mm=None,
        measurements=(
            Measurement("count", codes.NUMBER_OF_CALCIFICATIONS, 3, codes.NO_UNITS),
            Measurement("long_axis_mm", codes.LONG_AXIS, 1.4, codes.MILLIMETER),
            Measurement("short_axis_mm", codes.SHORT_AXIS, 1.4, codes.MILLIMETER),
            Measurement("area_mm2", codes.AREA, 1.96, codes.SQUARE_MILLIMETER),
        ),
        key_instance_uid=view.instance_uid,
        tracking_uid=derived_uid("dummy_study", view.instance_uid),
        side="right" if view.laterality == "R" else "left",
        attributes={
            codes.CALCIFICATION_TYPE: codes.PUNCTATE,
            codes.CALCIFICATION_DISTRIBUTION: codes.GROUPED,
            codes.BREAST_REGION: codes.OUTER_HALF,
            codes.BREAST_DEPTH: codes.MIDDLE_THIRD_OF_BREAST,
            codes.BI_RADS: codes.BI_RADS_4A,
        },
        view=view.name,
        center_px=(20.0, 20.0),
    )


class DummyStudyPipeline:
    name = "dummy_study"
    settings = DummyStudySettings
    looks_for = codes.CALCIFICATION_CLUSTER
    site = codes.BREAST
    window = (0.5, 1.0)
    reads = "study"
    compares_with_prior = False

    def open(self, settings: DummyStudySettings) -> Reader:
        return DummyStudyReader(settings)


PIPELINE = DummyStudyPipeline()
