"""The `work` role: the engine that reads."""

from __future__ import annotations

from dicom_node.dispatch.engine import serve_engine
from dicom_node.process import stop_on_signals
from dicom_node.service import wake
from dicom_node.settings import Settings


def run(settings: Settings, _slot: int) -> int:
    """Run the engine that reads until told to stop."""
    serve_engine(settings, stop_on_signals(), wake.Notifier(settings.node.spool))
    return 0
