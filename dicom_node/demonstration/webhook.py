"""A webhook receiver for the demonstration: it stands for the on-call physician's phone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dicom_node.clock import utc_now


@dataclass(slots=True)
class Phone:
    """What came in so far: time and message of each alert."""

    url: str = ""
    received: list[tuple[datetime, dict[str, object]]] = field(default_factory=list)


@contextmanager
def listening() -> Iterator[Phone]:
    """A phone that listens on a free port of this machine."""
    phone = Phone()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            phone.received.append((utc_now(), json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    phone.url = f"json://127.0.0.1:{server.server_port}/alerts"
    threading.Thread(target=server.serve_forever, name="phone", daemon=True).start()
    try:
        yield phone
    finally:
        server.shutdown()
        server.server_close()
