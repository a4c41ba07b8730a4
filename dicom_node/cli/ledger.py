"""`triage-node studies|queue|deliveries|alerts|quarantine`: what the ledger holds."""

from __future__ import annotations
