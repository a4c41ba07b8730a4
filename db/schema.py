"""The ledger's tables. Times are UTC, enumerations text with a CHECK, JSON canonical text.

A state column's words are the design's; what may follow what stands in the `policy` of the stage that owns the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.types import JSON

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

RowId = BigInteger().with_variant(Integer, "sqlite")


class Utc(TypeDecorator[datetime]):
    """An aware datetime in UTC, stored without its zone where the database has none."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("the ledger takes aware times only")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


def _one_of(column: str, words: Sequence[str]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(word) for word in words)})", name=column)


ASSOCIATION_ENDS = ("released", "aborted", "lost")
REVISION_STATES = ("receiving", "complete", "read", "superseded")
COMPLETED_BY = ("association_end", "quiet_time", "hard_limit")
DECISION_ACTIONS = ("read", "ignored", "not_read")
JOB_STATES = ("waiting", "running", "done", "not_read", "quarantined", "cancelled")
RESULT_STATUSES = ("finding", "clean", "unsure", "not_read")
DELIVERY_STATES = ("pending", "sent", "stored", "confirmed", "refused", "given_up", "not_sent")
ALERT_STATES = ("raised", "delivered", "acknowledged", "escalated", "withdrawn", "closed", "given_up")

associations = Table(
    "associations",
    metadata,
    Column("association_id", Text, primary_key=True),
    Column("receiver", Text, nullable=False, comment="which receiving process holds it"),
    Column("calling_ae_title", Text, nullable=False),
    Column("called_ae_title", Text, nullable=False),
    Column("peer_address", Text, nullable=False),
    Column("opened_at", Utc, nullable=False),
    Column("ended_at", Utc),
    Column("ended_by", Text),
    _one_of("ended_by", ASSOCIATION_ENDS),
    Index("ix_associations_open", "receiver", "ended_at"),
)

studies = Table(
    "studies",
    metadata,
    Column("study_instance_uid", Text, primary_key=True),
    Column("patient_id", Text, nullable=False, index=True),
    Column("patient_name", Text, nullable=False),
    Column("accession_number", Text, nullable=False),
    Column("study_date", Text, nullable=False),
    Column("study_description", Text, nullable=False),
    Column("first_received_at", Utc, nullable=False, index=True),
    Column("last_received_at", Utc, nullable=False),
)

series = Table(
    "series",
    metadata,
    Column("series_instance_uid", Text, primary_key=True),
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), nullable=False, index=True),
    Column("modality", Text, nullable=False),
    Column("series_description", Text, nullable=False),
)

instances = Table(
    "instances",
    metadata,
    Column("instance_id", RowId, primary_key=True),
    Column("sop_instance_uid", Text, nullable=False, unique=True),
    Column("sop_class_uid", Text, nullable=False),
    Column("series_instance_uid", Text, ForeignKey("series.series_instance_uid"), nullable=False),
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), nullable=False, index=True),
    Column("revision_number", Integer, nullable=False, comment="the first revision of its series that holds it"),
    Column("association_id", Text, ForeignKey("associations.association_id"), nullable=False, index=True),
    Column("file", Text, nullable=False, comment="below the spool"),
    Column("sha256", Text, nullable=False, comment="of the data set as it came"),
    Column("size_bytes", BigInteger, nullable=False),
    Column("transfer_syntax_uid", Text, nullable=False),
    Column("received_at", Utc, nullable=False),
    Index("ix_instances_revision", "series_instance_uid", "revision_number"),
)

revisions = Table(
    "revisions",
    metadata,
    Column("revision_id", RowId, primary_key=True),
    Column("series_instance_uid", Text, ForeignKey("series.series_instance_uid"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("opened_at", Utc, nullable=False),
    Column("completed_at", Utc),
    Column("completed_by", Text),
    Column("instance_count", Integer, comment="fixed when complete"),
    Column("digest", Text, comment="SHA-256 over the instances' own, in order of SOP Instance UID"),
    Column("superseded_by", RowId, ForeignKey("revisions.revision_id")),
    _one_of("state", REVISION_STATES),
    _one_of("completed_by", COMPLETED_BY),
    UniqueConstraint("series_instance_uid", "number"),
    Index("ix_revisions_state", "state"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("decision_id", RowId, primary_key=True),
    Column("revision_id", RowId, ForeignKey("revisions.revision_id"), nullable=False, unique=True),
    Column("action", Text, nullable=False),
    Column("rule", Text),
    Column("pipeline", Text),
    Column("reason", JSON, comment="why it is ignored or cannot be routed"),
    Column("facts", JSON, nullable=False, comment="what the decision was made on"),
    Column("configuration_hash", Text, nullable=False),
    Column("decided_at", Utc, nullable=False),
    _one_of("action", DECISION_ACTIONS),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", RowId, primary_key=True),
    Column("revision_id", RowId, ForeignKey("revisions.revision_id"), nullable=False, unique=True),
    # The one whose decision asked for it; all that it reads is in `job_revisions`.
    Column("pipeline", Text, nullable=False),
    Column("priority", Integer, nullable=False, comment="lower goes first"),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, comment="counted when claimed"),
    Column("worker_deaths", Integer, nullable=False),
    Column("fencing_token", Integer, nullable=False, comment="grows with each claim; only its holder may record"),
    Column("lease_owner", Text),
    Column("lease_until", Utc),
    Column("not_before", Utc, nullable=False),
    Column("reason", JSON),
    Column("created_at", Utc, nullable=False),
    Column("started_at", Utc),
    Column("ended_at", Utc),
    _one_of("state", JOB_STATES),
    Index("ix_jobs_queue", "state", "priority", "not_before"),
)

job_revisions = Table(
    "job_revisions",
    metadata,
    Column("job_id", RowId, ForeignKey("jobs.job_id"), primary_key=True),
    Column("revision_id", RowId, ForeignKey("revisions.revision_id"), primary_key=True, index=True),
)
"""What a job reads: one revision, or those of all series that make a study. A later job may read a revision anew."""

results = Table(
    "results",
    metadata,
    Column("result_id", RowId, primary_key=True),
    Column("job_id", RowId, ForeignKey("jobs.job_id"), nullable=False),
    Column(
        "fencing_token", Integer, nullable=False, comment="of the claim it came from; a job tried anew gives another"
    ),
    Column("revision_id", RowId, ForeignKey("revisions.revision_id"), nullable=False, index=True),
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), nullable=False, index=True),
    Column("pipeline", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("score", Float),
    Column("outcome", JSON, nullable=False),
    Column("configuration_hash", Text, nullable=False),
    Column("recorded_at", Utc, nullable=False),
    Column("alert_considered_at", Utc, comment="when the alert rules were asked"),
    _one_of("status", RESULT_STATUSES),
    UniqueConstraint("job_id", "fencing_token"),
    Index("ix_results_alerts", "alert_considered_at"),
)

objects = Table(
    "objects",
    metadata,
    Column("object_id", RowId, primary_key=True),
    Column("result_id", RowId, ForeignKey("results.result_id"), nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("sop_class_uid", Text, nullable=False),
    Column("sop_instance_uid", Text, nullable=False, unique=True),
    Column("series_instance_uid", Text, nullable=False),
    Column("file", Text, nullable=False, comment="below the spool"),
    Column("sha256", Text, nullable=False, comment="of the file"),
    Column("size_bytes", BigInteger, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", RowId, primary_key=True),
    Column("object_id", RowId, ForeignKey("objects.object_id"), nullable=False),
    Column("result_id", RowId, ForeignKey("results.result_id"), nullable=False, index=True),
    Column("destination", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Utc, comment="NULL when nothing more is to be done"),
    Column("status", Integer, comment="the last DIMSE status of the destination"),
    Column("comment", Text, nullable=False, comment="its Error Comment, or what kept it from answering"),
    Column("reason", JSON),
    Column("created_at", Utc, nullable=False),
    Column("stored_at", Utc),
    Column("confirmed_at", Utc),
    _one_of("state", DELIVERY_STATES),
    UniqueConstraint("object_id", "destination"),
    Index("ix_deliveries_due", "destination", "state", "next_attempt_at"),
)

alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", RowId, primary_key=True),
    Column("result_id", RowId, ForeignKey("results.result_id"), nullable=False),
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), nullable=False, index=True),
    Column("rule", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Utc, comment="NULL when nothing more is to be done"),
    Column("reason", JSON),
    Column("raised_at", Utc, nullable=False),
    Column("delivered_at", Utc),
    _one_of("state", ALERT_STATES),
    UniqueConstraint("result_id", "rule"),
    Index("ix_alerts_due", "state", "next_attempt_at"),
)

alert_events = Table(
    "alert_events",
    metadata,
    Column("event_id", RowId, primary_key=True),
    Column("alert_id", RowId, ForeignKey("alerts.alert_id"), nullable=False, index=True),
    Column("at", Utc, nullable=False),
    Column("event", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("sequence", RowId, primary_key=True, autoincrement=False),
    Column("at", Utc, nullable=False),
    Column("event", Text, nullable=False, index=True),
    Column("outcome", Integer, nullable=False, comment="EventOutcomeIndicator: 0, 4, 8 or 12 (PS3.15, A.5)"),
    Column("actor", Text, nullable=False),
    Column("study_instance_uid", Text, nullable=False, index=True, comment="empty where no study is concerned"),
    Column("facts", Text, nullable=False, comment="canonical JSON: what the hash was taken of"),
    Column("previous_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("quarantine_id", RowId, primary_key=True),
    Column("at", Utc, nullable=False),
    Column("association_id", Text, ForeignKey("associations.association_id")),
    Column("sop_class_uid", Text, nullable=False),
    Column("sop_instance_uid", Text, nullable=False),
    Column("transfer_syntax_uid", Text, nullable=False),
    Column("file", Text, nullable=False, comment="below the spool"),
    Column("sha256", Text, nullable=False),
    Column("reason", JSON, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("model_id", RowId, primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("first_used_at", Utc, nullable=False),
    UniqueConstraint("name", "version", "sha256"),
)
