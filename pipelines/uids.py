"""Deterministic UIDs: the same parts always give the same UID, so the same work done twice names the same thing."""

from __future__ import annotations

from uuid import UUID, uuid5

NAMESPACE = UUID("6b1f7b52-9c1e-5a55-8f3e-2f7c0d6a4c11")


def derived_uid(*parts: str) -> str:
    """The UID of `parts`: a version 5 UUID (RFC 9562) under the root 2.25 (PS3.5, B.2)."""
    return f"2.25.{uuid5(NAMESPACE, chr(0).join(parts)).int}"
