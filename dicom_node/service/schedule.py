"""What is done by the clock and not by work that waits: APScheduler's jobs in the coordinator."""

from __future__ import annotations

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from db import audit
from db.connect import Ledger
from dicom_node.clock import Clock
from dicom_node.settings import Settings
from dicom_node.spool import Spool

log = structlog.get_logger()

DISK_CHECK_S = 60
AUDIT_CHECK_H = 24


def start(settings: Settings, ledger: Ledger, spool: Spool, clock: Clock) -> BackgroundScheduler:
    """Start the jobs in threads of this process; `shutdown()` of what it gives ends them."""
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.add_job(check_disk, "interval", seconds=DISK_CHECK_S, args=[settings, spool])
    scheduler.add_job(check_audit, "interval", hours=AUDIT_CHECK_H, args=[ledger, clock])
    scheduler.start()
    return scheduler


def check_disk(settings: Settings, spool: Spool) -> None:
    """Say in the log that the disk fills up, while images are still taken."""
    free_mb = spool.free_bytes() // 2**20
    if free_mb < 2 * settings.receive.free_disk_mb:
        log.warning("disk.low", free_mb=free_mb, refusing_below_mb=settings.receive.free_disk_mb)


def check_audit(ledger: Ledger, clock: Clock) -> None:
    """Walk the audit chain. Its last hash goes to the log too: a copy elsewhere shows a trail that was cut."""
    with ledger.read() as connection:
        count, last_hash, broken = audit.verify(connection)
    facts = {
        "events": count,
        "last_hash": last_hash,
        "problem": broken and f"event {broken.sequence}: {broken.problem}",
    }
    (log.error if broken else log.info)("audit.verified", **facts)
    with ledger.write() as connection:
        outcome = 12 if broken else 0
        audit.append(connection, at=clock(), event="audit.verified", actor="coordinate", outcome=outcome, facts=facts)
