"""The `receive` role: listens on the node's port, together with its siblings, and serves each caller in a thread."""

from __future__ import annotations

import errno
import fcntl
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from db.connect import Ledger
from dicom_node.clock import Clock
from dicom_node.process import publish
from dicom_node.receive.conversation import Conversation, Seats
from dicom_node.receive.stage import Intake
from dicom_node.settings import Settings
from dicom_node.spool import Spool
from pipelines.reasons import Reason, TriageError

log = structlog.get_logger()

POLL_S = 0.2
"""How long it may take until `stop` is seen; callers do not wait for it."""

BACKLOG = 128
SPARE_CONNECTIONS = 32
"""Connections beyond the associations' limit that are listened to for long enough to be rejected in the proper form."""

END_WITHIN_S = 10.0
KEEPALIVE_S = 60


class PortBusyError(TriageError):
    """Another program listens on the port."""

    def __init__(self, port: int) -> None:
        super().__init__(Reason("service.port_busy", {"port": port}))


def serve_receiver(
    settings: Settings,
    ledger: Ledger,
    spool: Spool,
    slot: int,
    *,
    notify: Callable[[], None],
    clock: Clock,
    stop: threading.Event,
) -> None:
    """Take in instances until `stop` is set. `notify` is called whenever there may be work for the next stage.

    Raises `PortBusyError`, and `LedgerError` when the ledger cannot be used at the start.
    """
    free_bytes = settings.receive.free_disk_mb * 2**20
    intake = Intake(ledger, spool, f"receive-{slot}", notify=notify, clock=clock, free_bytes=free_bytes)
    with _shared_port(settings, spool.root / "run") as listener:
        intake.recover()
        publish(spool.root, f"receive-{slot}", {"port": settings.node.port})
        log.info("receive.listening", port=settings.node.port, slot=slot)
        _Receiver(settings, intake).serve(listener, stop)


class _Receiver:
    def __init__(self, settings: Settings, intake: Intake) -> None:
        self._settings = settings
        self._intake = intake
        self._seats = Seats()
        self._served: dict[threading.Thread, Conversation] = {}

    def serve(self, listener: socket.socket, stop: threading.Event) -> None:
        listener.settimeout(POLL_S)
        while not stop.is_set():
            try:
                connection, address = listener.accept()
            except TimeoutError:
                continue
            except OSError as error:  # too many open files, or a caller that has gone already
                log.error("receive.accept_failed", error=error.strerror)
                stop.wait(POLL_S)
                continue
            self._start(connection, str(address[0]))
        self._end_all()

    def _start(self, connection: socket.socket, host: str) -> None:
        self._served = {thread: one for thread, one in self._served.items() if thread.is_alive()}
        if len(self._served) >= self._settings.receive.maximum_associations + SPARE_CONNECTIONS:
            connection.close()
            return
        for level, option, value in (
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S),
        ):
            connection.setsockopt(level, option, value)
        conversation = Conversation(connection, host, self._settings, self._intake, self._seats)
        thread = threading.Thread(target=conversation.run, name="association", daemon=True)
        self._served[thread] = conversation
        thread.start()

    def _end_all(self) -> None:
        for conversation in self._served.values():
            conversation.stop()
        for thread in self._served:
            thread.join(END_WITHIN_S)


@contextmanager
def _shared_port(settings: Settings, folder: Path) -> Iterator[socket.socket]:
    """A socket that listens on the node's port. Siblings share it; any other program's claim is reported.

    SO_REUSEPORT alone would let two nodes of one user split the callers between them unseen. So the first of the
    siblings (who share a lock file in the spool) tries the port without it.
    """
    address = (settings.node.host, settings.node.port)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "receive.lock").open("w") as lock:
        if _is_first(lock.fileno()):
            _bind(address, share=False).close()
        with _bind(address, share=True) as listener:
            listener.listen(BACKLOG)
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield listener


def _is_first(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(lock, fcntl.LOCK_SH)  # waits while the first one tries the port
        return False
    return True


def _bind(address: tuple[str, int], *, share: bool) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortBusyError(address[1]) from error
        raise
    return listener
