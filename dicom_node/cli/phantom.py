"""`triage-node phantom`: made studies with their truth."""

from __future__ import annotations
