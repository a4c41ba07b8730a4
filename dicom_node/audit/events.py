"""The events of the audit trail: a closed set, each with its meaning and its EventID in the standard's audit messages.

EventIDs are of the DCM scheme (PS3.15, A.5).
"""

from __future__ import annotations

from typing import NamedTuple


class AuditEvent(NamedTuple):
    """What an event means to a reader of the trail, and the EventID it is exported under."""

    meaning: str
    event_id: str


EVENTS: dict[str, AuditEvent] = {
    "service.started": AuditEvent("A process of the node started", "110100"),
    "service.stopped": AuditEvent("A process of the node stopped", "110100"),
    "configuration.loaded": AuditEvent("The configuration in force changed", "110113"),
    "association.rejected": AuditEvent("A sender was turned away", "110113"),
    "instance.refused": AuditEvent("An instance was not taken, for a stated reason", "110104"),
    "series.received": AuditEvent("A revision of a series is complete and durable", "110104"),
    "series.superseded": AuditEvent("A newer revision of the series takes the place of this one", "110104"),
    "decision.made": AuditEvent("It was decided whether, by what and with which others a series is read", "110100"),
    "reading.done": AuditEvent("A series was read", "110103"),
    "reading.not_read": AuditEvent("A series was not read, for a stated reason", "110103"),
    "reading.retry_asked": AuditEvent("An operator asked for a series to be read again", "110100"),
    "delivery.stored": AuditEvent("A destination stored a result", "110104"),
    "delivery.confirmed": AuditEvent("A destination showed the result when asked", "110112"),
    "delivery.refused": AuditEvent("A destination refused a result", "110104"),
    "delivery.not_sent": AuditEvent("A destination does without a result, for a stated reason", "110104"),
    "delivery.given_up": AuditEvent("A result could not be delivered in time", "110104"),
    "delivery.retry_asked": AuditEvent("An operator asked for another attempt to deliver", "110100"),
    "alert.raised": AuditEvent("An alert was raised", "110106"),
    "alert.not_raised": AuditEvent("A rule asks for such results, but nobody was told, for a stated reason", "110106"),
    "alert.delivered": AuditEvent("An alert was handed to a channel", "110106"),
    "alert.failed": AuditEvent("A channel did not take an alert", "110106"),
    "audit.verified": AuditEvent("The chain of the audit trail was checked", "110101"),
}
