from __future__ import annotations

import pytest

from dicom_node.route.kernels import classify


@pytest.mark.parametrize(
    ("manufacturer", "kernel", "description", "expected"),
    [
        ("GE MEDICAL SYSTEMS", "STANDARD", "", "soft"),
        ("GE MEDICAL SYSTEMS", "STD+", "", "soft"),
        ("GE MEDICAL SYSTEMS", "SOFT", "", "soft"),
        ("GE MEDICAL SYSTEMS", "BONEPLUS", "", "bone"),
        ("GE MEDICAL SYSTEMS", "BONE", "", "bone"),
        ("GE MEDICAL SYSTEMS", "LUNG", "", "lung"),
        ("SIEMENS", "H31s", "", "soft"),
        ("SIEMENS", "H60s", "", "bone"),
        ("SIEMENS", "J40s", "", "soft"),
        ("Siemens Healthineers", "Hr40f", "", "soft"),
        ("Siemens Healthineers", "Hr68h", "", "bone"),
        ("SIEMENS", "B30f", "", "soft"),
        ("SIEMENS", "B70f", "", "lung"),
        ("SIEMENS", "Br40d", "", "soft"),
        ("SIEMENS", "Bl57f", "", "lung"),
        ("SIEMENS", "U90u", "", "bone"),
        ("Philips", "UB", "", "soft"),
        ("Philips", "UC", "", "soft"),
        ("Philips", "YC", "", "bone"),
        ("Philips", "D", "", "bone"),
        ("Philips", "L", "", "lung"),
        ("TOSHIBA", "FC21", "", "soft"),
        ("TOSHIBA", "FC68", "", "soft"),
        ("TOSHIBA", "FC30", "", "bone"),
        ("Canon Medical Systems", "FC81", "", "bone"),
        ("TOSHIBA", "FC51", "", "lung"),
        ("Elscint", "", "Head bone 1mm", "bone"),
        ("", "", "Knochenfenster", "bone"),
        ("", "", "Weichteil 5.0", "soft"),
        ("", "BONE", "brain 5mm", "bone"),
        ("SIEMENS", "H30s", "bone", "soft"),
        ("", "11", "Lv2", "unknown"),
        ("", "", "", "unknown"),
    ],
)
def test_what_a_kernel_is_made_for(manufacturer: str, kernel: str, description: str, expected: str) -> None:
    assert classify(manufacturer, kernel, description) == expected
