from __future__ import annotations

import json
import subprocess
import sys

from dicom_node.telemetry import token

PATIENT = "Doe^Jane"
PROGRAM = f"""
import logging, structlog, warnings
from dicom_node.telemetry import configure_logging
configure_logging("test")
log = structlog.get_logger()
log.info("series.complete", series="abc", instances=3)
log.debug("never.seen")
try:
    raise ValueError("value {PATIENT} is wrong")
except ValueError:
    log.exception("stage.failed", stage="route")
    logging.getLogger("library").exception("library failed")
logging.getLogger("pynetdicom").info("data set of {PATIENT}")
logging.getLogger("pynetdicom").warning("a warning")
warnings.warn("Invalid value for VR PN: {PATIENT}")
try:
    try:
        raise KeyError("{PATIENT}")
    except KeyError as error:
        raise RuntimeError("{PATIENT}") from error
except RuntimeError as error:
    log.error("chained", exc_info=error)
"""


def test_logs_are_json_lines_on_standard_error_without_values() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == [
        "series.complete", "stage.failed", "library failed", "a warning", "library.warned", "chained",
    ]  # fmt: skip
    assert {line["role"] for line in lines} == {"test"}
    assert [line["level"] for line in lines] == ["info", "error", "error", "warning", "warning", "error"]
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert [line.get("error") for line in lines] == [None, "ValueError", "ValueError", None, None, "RuntimeError"]
    assert lines[1]["where"] == ["<string>:9 <module>"]
    assert (lines[4]["kind"], lines[4]["where"]) == ("UserWarning", "<string>:15")
    assert PATIENT not in done.stderr


def test_a_token_stands_for_a_uid() -> None:
    assert token("2.25.1") == token("2.25.1") != token("2.25.2")
    assert len(token("2.25.1")) == 10 and "2.25" not in token("2.25.1")
