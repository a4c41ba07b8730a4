"""The demonstration, as a newcomer runs it. It holds with trained weights only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

WITHIN_S = 300


def test_the_demonstration_verifies_itself(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRIAGE_DATA"}
    environment["TMPDIR"] = str(tmp_path)
    command = [sys.executable, "-m", "dicom_node.cli.main", "demo", "--out", str(tmp_path / "pictures")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=WITHIN_S, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout
    for words in (
        "PACS: ",
        "pushing with",
        "alert at the on-call physician's webhook",
        "results in the PACS: KO OT SEG SR",
    ):
        assert words in told
    assert "answer: finding" in told and "answer: clean" in told
    pictures = sorted((tmp_path / "pictures").glob("*.png"))
    assert len(pictures) == 2
    for picture in pictures:
        assert Image.open(picture).size[0] >= 512
        assert str(picture.name) in told.replace("\n", "")
    assert not list(tmp_path.glob("triage-node-demo-*")), "nothing is left behind"
