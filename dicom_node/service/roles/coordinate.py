"""The `coordinate` role: every stage behind the receiver, each in a thread of its own."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import structlog

from db import audit, jobs
from db.connect import Ledger, opened_ledger
from dicom_node.alert.stage import AlertStage, RaiseStage
from dicom_node.assemble.stage import AssembleStage
from dicom_node.clock import utc_now
from dicom_node.deliver.stage import DeliverStage
from dicom_node.dispatch.engine import Engine
from dicom_node.dispatch.stage import DispatchStage
from dicom_node.process import publish, stop_on_signals
from dicom_node.route.stage import RouteStage
from dicom_node.service import loop, schedule, wake
from dicom_node.settings import Settings
from dicom_node.spool import Spool

log = structlog.get_logger()

FAILED = 1


def run(settings: Settings, slot: int) -> int:
    """Run the stages behind the receiver until told to stop; waits first until no other coordinator runs."""
    with ExitStack() as stack:
        _become_leader(settings)
        stop = stop_on_signals()
        ledger = stack.enter_context(opened_ledger(settings.node.database_url))
        spool = Spool(settings.node.spool)
        _note_start(settings, ledger)
        engine = Engine(settings.node.spool)
        stack.callback(engine.close)
        scheduler = schedule.start(settings, ledger, spool, utc_now)
        stack.callback(scheduler.shutdown, wait=False)
        events: list[threading.Event] = []

        def wake_all() -> None:
            for event in events:
                event.set()

        stages = _stages(settings, ledger, spool, engine, wake_all)
        events.extend(threading.Event() for _ in stages)
        wake.listen(settings.node.spool, events)
        threads = [
            threading.Thread(target=_drive, args=(stage, event, stop, wake_all), name=stage.name)
            for stage, event in zip(stages, events, strict=True)
        ]
        for thread in threads:
            thread.start()
        publish(settings.node.spool, f"coordinate-{slot}", {})
        stop.wait()
        wake_all()
        for thread in threads:
            thread.join()
        with ledger.write() as connection:
            audit.append(connection, at=utc_now(), event="service.stopped", actor="coordinate")
    return 0


def _become_leader(settings: Settings) -> None:
    """Return when this process alone coordinates; the lock ends with the process (decision record 0005)."""
    folder = settings.node.spool / "run"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "coordinate.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def _note_start(settings: Settings, ledger: Ledger) -> None:
    now = utc_now()
    with ledger.write() as connection:
        # Nobody else coordinates, so whoever held a job is gone.
        jobs.release_orphans(connection, now=now)
        facts = {"configuration_hash": settings.hash()}
        audit.append(connection, at=now, event="service.started", actor="coordinate", facts=facts)
        if audit.last_facts(connection, "configuration.loaded") != facts:
            audit.append(connection, at=now, event="configuration.loaded", actor="coordinate", facts=facts)


def _stages(
    settings: Settings, ledger: Ledger, spool: Spool, engine: Engine, notify: Callable[[], None]
) -> list[loop.Stage[Any]]:
    """One for each step, reading slot, destination and alert rule: none holds up another."""
    return [
        AssembleStage(ledger, spool, settings),
        RouteStage(ledger, spool, settings),
        *(
            DispatchStage(
                ledger=ledger, settings=settings, spool=spool, engine=engine, clock=utc_now, notify=notify, slot=slot
            )
            for slot in range(settings.work.workers)
        ),
        *(DeliverStage(name, settings, ledger, spool, utc_now) for name in settings.destinations),
        RaiseStage(ledger, settings),
        *(AlertStage(name, settings, ledger, utc_now) for name in settings.alerts),
    ]


def _drive(stage: loop.Stage[Any], event: threading.Event, stop: threading.Event, worked: Callable[[], None]) -> None:
    try:
        loop.drive(stage, event, stop, utc_now, worked)
    except BaseException:
        # A stage without its thread would be a node that looks well and does nothing: start again as a whole.
        log.exception("stage.ended", stage=stage.name)
        os._exit(FAILED)
