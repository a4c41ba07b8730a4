"""English."""

from __future__ import annotations

from pipelines import codes
from reporting.narrative.narrative import Narrative

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
    },
)
