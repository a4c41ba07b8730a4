"""English."""

from __future__ import annotations

from pipelines import codes
from reporting.narrative.narrative import Counted, Narrative

NARRATIVE = Narrative(
    language="en",
    code=codes.ENGLISH,
    found_one="{term} suspected{side}{volume} (score {score})",
    found_many="{term} suspected{side}: {count} findings{volume} (score {score})",
    clean="No {term} found (score {score})",
    unsure="Not sure about {term} (score {score}): read by eye",
    certainty="certainty {}",
    volume_in_all=", {:.1f} mL",
    disclaimer="For research and quality work; not a diagnosis.",
    method="Volumes are sums of voxels, each slice counted with half the gap to either neighbour.",
    model="{name} {version}, {software}",
    slice="Slice {number} of {count}",
    position="{:+.0f} mm",
    key_slice="Key slice",
    from_in_front="From in front, mean of 4 cm in the middle",
    highest_slice="Slice with the highest score",
    score_by_slice="Score by slice",
    series_description="Triage (research): {what}, {model}",
    key_object_description="Slices that show what was found best. {impression}. {disclaimer}",
    more="and {} more in the report",
    segment="Finding {number}: {term}{side}",
    sides={"left": "left", "right": "right", "bilateral": "both sides", "midline": "midline"},
    measurements={
        "volume_ml": "{:.1f} mL",
        "long_axis_mm": "long axis {:.0f} mm",
        "short_axis_mm": "short axis {:.0f} mm",
        "mean_hu": "mean {:.0f} HU",
        "mass_mg": "mass {:.0f} mg",
        "malignancy": "readers' impression of malignancy {:.0f}%",
    },
    counted={
        "Nodule": Counted(
            one="1 lung nodule",
            many="{count} lung nodules",
            of_one=", {}",
            of_many=", largest {}",
            segment="Nodule {number}{side}",
            category="{} suggested",
            assessed="{} is suggested by the rules of v2022 and provisional: the assessment is the reader's.",
        )
    },
    axes="{:.1f} x {:.1f} mm",
    mean_axis=" (mean {:.1f})",
    solid_part=", solid part {:.1f} mm",
    cubic_mm="{:.0f} mm3",
    since=" since {:%Y-%m-%d}",
    doubling_time="doubling time {:.0f} d",
    doubling_interval=" ({:.0f}-{:.0f})",
    compared="Compared with the study of {:%Y-%m-%d}.",
    terms={
        "Nodule": "Lung nodules",
        "Upper third of lung": "upper third",
        "Middle third of lung": "middle third",
        "Lower third of lung": "lower third",
        "Within the lung": "",
    },
)
