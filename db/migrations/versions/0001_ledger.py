"""The first ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.schema import Utc

revision = "0001"
down_revision = None

_APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER audit_no_{verb} BEFORE {verb.upper()} ON audit "
        "BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
        for verb in ("update", "delete")
    ],
    "postgresql": [
        "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit trail is append-only'; END $$",
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit "
        "FOR EACH ROW EXECUTE FUNCTION audit_is_append_only()",
    ],
}


def upgrade() -> None:

    op.create_table(
        "associations",
        sa.Column("association_id", sa.Text(), nullable=False),
        sa.Column("receiver", sa.Text(), nullable=False, comment="which receiving process holds it"),
        sa.Column("calling_ae_title", sa.Text(), nullable=False),
        sa.Column("called_ae_title", sa.Text(), nullable=False),
        sa.Column("peer_address", sa.Text(), nullable=False),
        sa.Column("opened_at", Utc(), nullable=False),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.CheckConstraint("ended_by IN ('released', 'aborted', 'lost')", name=op.f("ck_associations_ended_by")),
        sa.PrimaryKeyConstraint("association_id", name=op.f("pk_associations")),
    )
    op.create_index("ix_associations_open", "associations", ["receiver", "ended_at"], unique=False)
    op.create_table(
        "audit",
        sa.Column(
            "sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column(
            "outcome", sa.Integer(), nullable=False, comment="EventOutcomeIndicator: 0, 4, 8 or 12 (PS3.15, A.5)"
        ),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False, comment="empty where no study is concerned"),
        sa.Column("facts", sa.Text(), nullable=False, comment="canonical JSON: what the hash was taken of"),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_event"), "audit", ["event"], unique=False)
    op.create_index(op.f("ix_audit_study_instance_uid"), "audit", ["study_instance_uid"], unique=False)
    op.create_table(
        "models",
        sa.Column("model_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("first_used_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("model_id", name=op.f("pk_models")),
        sa.UniqueConstraint("name", "version", "sha256", name=op.f("uq_models_name_version_sha256")),
    )
    op.create_table(
        "studies",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("patient_name", sa.Text(), nullable=False),
        sa.Column("accession_number", sa.Text(), nullable=False),
        sa.Column("study_date", sa.Text(), nullable=False),
        sa.Column("study_description", sa.Text(), nullable=False),
        sa.Column("first_received_at", Utc(), nullable=False),
        sa.Column("last_received_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name=op.f("pk_studies")),
    )
    op.create_index(op.f("ix_studies_first_received_at"), "studies", ["first_received_at"], unique=False)
    op.create_table(
        "quarantine",
        sa.Column("quarantine_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("association_id", sa.Text(), nullable=True),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("transfer_syntax_uid", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False, comment="below the spool"),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("reason", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["association_id"], ["associations.association_id"], name=op.f("fk_quarantine_association_id")
        ),
        sa.PrimaryKeyConstraint("quarantine_id", name=op.f("pk_quarantine")),
    )
    op.create_table(
        "series",
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("series_description", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"], ["studies.study_instance_uid"], name=op.f("fk_series_study_instance_uid")
        ),
        sa.PrimaryKeyConstraint("series_instance_uid", name=op.f("pk_series")),
    )
    op.create_index(op.f("ix_series_study_instance_uid"), "series", ["study_instance_uid"], unique=False)
    op.create_table(
        "instances",
        sa.Column("instance_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column(
            "revision_number", sa.Integer(), nullable=False, comment="the first revision of its series that holds it"
        ),
        sa.Column("association_id", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False, comment="below the spool"),
        sa.Column("sha256", sa.Text(), nullable=False, comment="of the data set as it came"),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("transfer_syntax_uid", sa.Text(), nullable=False),
        sa.Column("received_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["association_id"], ["associations.association_id"], name=op.f("fk_instances_association_id")
        ),
        sa.ForeignKeyConstraint(
            ["series_instance_uid"], ["series.series_instance_uid"], name=op.f("fk_instances_series_instance_uid")
        ),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"], ["studies.study_instance_uid"], name=op.f("fk_instances_study_instance_uid")
        ),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_instances")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_instances_sop_instance_uid")),
    )
    op.create_index(op.f("ix_instances_association_id"), "instances", ["association_id"], unique=False)
    op.create_index("ix_instances_revision", "instances", ["series_instance_uid", "revision_number"], unique=False)
    op.create_index(op.f("ix_instances_study_instance_uid"), "instances", ["study_instance_uid"], unique=False)
    op.create_table(
        "revisions",
        sa.Column("revision_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("opened_at", Utc(), nullable=False),
        sa.Column("completed_at", Utc(), nullable=True),
        sa.Column("completed_by", sa.Text(), nullable=True),
        sa.Column("instance_count", sa.Integer(), nullable=True, comment="fixed when complete"),
        sa.Column(
            "digest", sa.Text(), nullable=True, comment="SHA-256 over the instances' own, in order of SOP Instance UID"
        ),
        sa.Column("superseded_by", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.CheckConstraint(
            "completed_by IN ('association_end', 'quiet_time', 'hard_limit')", name=op.f("ck_revisions_completed_by")
        ),
        sa.CheckConstraint("state IN ('receiving', 'complete', 'read', 'superseded')", name=op.f("ck_revisions_state")),
        sa.ForeignKeyConstraint(
            ["series_instance_uid"], ["series.series_instance_uid"], name=op.f("fk_revisions_series_instance_uid")
        ),
        sa.ForeignKeyConstraint(["superseded_by"], ["revisions.revision_id"], name=op.f("fk_revisions_superseded_by")),
        sa.PrimaryKeyConstraint("revision_id", name=op.f("pk_revisions")),
        sa.UniqueConstraint("series_instance_uid", "number", name=op.f("uq_revisions_series_instance_uid_number")),
    )
    op.create_index("ix_revisions_state", "revisions", ["state"], unique=False)
    op.create_table(
        "decisions",
        sa.Column("decision_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("revision_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=True),
        sa.Column("pipeline", sa.Text(), nullable=True),
        sa.Column("reason", sa.JSON(), nullable=True, comment="why it is ignored or cannot be routed"),
        sa.Column("facts", sa.JSON(), nullable=False, comment="what the decision was made on"),
        sa.Column("configuration_hash", sa.Text(), nullable=False),
        sa.Column("decided_at", Utc(), nullable=False),
        sa.CheckConstraint("action IN ('read', 'ignored', 'not_read')", name=op.f("ck_decisions_action")),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.revision_id"], name=op.f("fk_decisions_revision_id")),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_decisions")),
        sa.UniqueConstraint("revision_id", name=op.f("uq_decisions_revision_id")),
    )
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("revision_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False, comment="lower goes first"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="counted when claimed"),
        sa.Column("worker_deaths", sa.Integer(), nullable=False),
        sa.Column(
            "fencing_token", sa.Integer(), nullable=False, comment="grows with each claim; only its holder may record"
        ),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", Utc(), nullable=True),
        sa.Column("not_before", Utc(), nullable=False),
        sa.Column("reason", sa.JSON(), nullable=True),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("started_at", Utc(), nullable=True),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'running', 'done', 'not_read', 'quarantined', 'cancelled')",
            name=op.f("ck_jobs_state"),
        ),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.revision_id"], name=op.f("fk_jobs_revision_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("revision_id", name=op.f("uq_jobs_revision_id")),
    )
    op.create_index("ix_jobs_queue", "jobs", ["state", "priority", "not_before"], unique=False)
    op.create_table(
        "results",
        sa.Column("result_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "fencing_token",
            sa.Integer(),
            nullable=False,
            comment="of the claim it came from; a job tried anew gives another",
        ),
        sa.Column("revision_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("outcome", sa.JSON(), nullable=False),
        sa.Column("configuration_hash", sa.Text(), nullable=False),
        sa.Column("recorded_at", Utc(), nullable=False),
        sa.Column("alert_considered_at", Utc(), nullable=True, comment="when the alert rules were asked"),
        sa.CheckConstraint("status IN ('finding', 'clean', 'unsure', 'not_read')", name=op.f("ck_results_status")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_results_job_id")),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.revision_id"], name=op.f("fk_results_revision_id")),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"], ["studies.study_instance_uid"], name=op.f("fk_results_study_instance_uid")
        ),
        sa.PrimaryKeyConstraint("result_id", name=op.f("pk_results")),
        sa.UniqueConstraint("job_id", "fencing_token", name=op.f("uq_results_job_id_fencing_token")),
    )
    op.create_index("ix_results_alerts", "results", ["alert_considered_at"], unique=False)
    op.create_index(op.f("ix_results_revision_id"), "results", ["revision_id"], unique=False)
    op.create_index(op.f("ix_results_study_instance_uid"), "results", ["study_instance_uid"], unique=False)
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("result_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", Utc(), nullable=True, comment="NULL when nothing more is to be done"),
        sa.Column("reason", sa.JSON(), nullable=True),
        sa.Column("raised_at", Utc(), nullable=False),
        sa.Column("delivered_at", Utc(), nullable=True),
        sa.CheckConstraint(
            "state IN ('raised', 'delivered', 'acknowledged', 'escalated', 'withdrawn', 'closed', 'given_up')",
            name=op.f("ck_alerts_state"),
        ),
        sa.ForeignKeyConstraint(["result_id"], ["results.result_id"], name=op.f("fk_alerts_result_id")),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"], ["studies.study_instance_uid"], name=op.f("fk_alerts_study_instance_uid")
        ),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_alerts")),
        sa.UniqueConstraint("result_id", "rule", name=op.f("uq_alerts_result_id_rule")),
    )
    op.create_index("ix_alerts_due", "alerts", ["state", "next_attempt_at"], unique=False)
    op.create_index(op.f("ix_alerts_study_instance_uid"), "alerts", ["study_instance_uid"], unique=False)
    op.create_table(
        "objects",
        sa.Column("object_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("result_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False, comment="below the spool"),
        sa.Column("sha256", sa.Text(), nullable=False, comment="of the file"),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["result_id"], ["results.result_id"], name=op.f("fk_objects_result_id")),
        sa.PrimaryKeyConstraint("object_id", name=op.f("pk_objects")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_objects_sop_instance_uid")),
    )
    op.create_index(op.f("ix_objects_result_id"), "objects", ["result_id"], unique=False)
    op.create_table(
        "alert_events",
        sa.Column("event_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("alert_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.alert_id"], name=op.f("fk_alert_events_alert_id")),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_alert_events")),
    )
    op.create_index(op.f("ix_alert_events_alert_id"), "alert_events", ["alert_id"], unique=False)
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("object_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("result_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", Utc(), nullable=True, comment="NULL when nothing more is to be done"),
        sa.Column("status", sa.Integer(), nullable=True, comment="the last DIMSE status of the destination"),
        sa.Column("comment", sa.Text(), nullable=False, comment="its Error Comment, or what kept it from answering"),
        sa.Column("reason", sa.JSON(), nullable=True),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("stored_at", Utc(), nullable=True),
        sa.Column("confirmed_at", Utc(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'sent', 'stored', 'confirmed', 'refused', 'given_up')",
            name=op.f("ck_deliveries_state"),
        ),
        sa.ForeignKeyConstraint(["object_id"], ["objects.object_id"], name=op.f("fk_deliveries_object_id")),
        sa.ForeignKeyConstraint(["result_id"], ["results.result_id"], name=op.f("fk_deliveries_result_id")),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("object_id", "destination", name=op.f("uq_deliveries_object_id_destination")),
    )
    op.create_index("ix_deliveries_due", "deliveries", ["destination", "state", "next_attempt_at"], unique=False)
    op.create_index(op.f("ix_deliveries_result_id"), "deliveries", ["result_id"], unique=False)

    for statement in _APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)
