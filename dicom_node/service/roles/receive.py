"""The `receive` role: takes images in."""

from __future__ import annotations

import structlog

from db.connect import opened_ledger
from dicom_node.clock import utc_now
from dicom_node.process import stop_on_signals
from dicom_node.receive.scp import serve_receiver
from dicom_node.service import wake
from dicom_node.service.supervisor import WRONG_USAGE
from dicom_node.settings import Settings
from dicom_node.spool import Spool
from pipelines.reasons import TriageError

log = structlog.get_logger()


def run(settings: Settings, slot: int) -> int:
    """Take images in until told to stop."""
    stop = stop_on_signals()
    with opened_ledger(settings.node.database_url) as ledger:
        spool = Spool(settings.node.spool)
        try:
            serve_receiver(
                settings, ledger, spool, slot, notify=wake.Notifier(settings.node.spool), clock=utc_now, stop=stop
            )
        except TriageError as error:
            log.error("receiver.not_started", reason=error.reason.code, text=error.reason.text)
            return WRONG_USAGE
    return 0
