"""What an operator may ask of deliveries and destinations."""

from __future__ import annotations

from datetime import datetime

from db import audit, deliveries
from db.connect import Ledger
from db.deliveries import Delivery
from dicom_node.deliver.catalogue import catalogue
from dicom_node.deliver.policy import follow
from dicom_node.settings import Destination


def retry(ledger: Ledger, delivery_id: int, now: datetime) -> Delivery | None:
    """Ask anew for a delivery that was refused or given up: its time starts again. None when there is no such one.

    Raises `TransitionError` for a delivery that is still on its way or has arrived.
    """
    with ledger.write() as connection:
        found = deliveries.find_delivery(connection, delivery_id)
        if found is None:
            return None
        state = follow(found.state, "retry_asked")
        deliveries.change(
            connection,
            delivery_id,
            state=state,
            attempts=0,
            next_attempt_at=now,
            created_at=now,
            reason=None,
            status=None,
        )
        audit.append(
            connection,
            at=now,
            event="delivery.retry_asked",
            actor="operator",
            study_instance_uid=found.study_instance_uid,
            facts={"destination": found.destination, "sop_instance_uid": found.sop_instance_uid, "was": found.state},
        )
        return deliveries.find_delivery(connection, delivery_id)


def check_destination(name: str, settings: Destination, ae_title: str) -> str:
    """Ask a destination whether it answers, and give its answer in words.

    Raises `UnreachableError`; its reason says what is wrong: name unknown, nothing listens, no answer, title rejected.
    """
    return catalogue()[settings.kind].check(name, settings, ae_title)
