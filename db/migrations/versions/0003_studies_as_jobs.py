"""A job may read several revisions, and a delivery may end as not sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.schema import RowId

revision = "0003"
down_revision = "0002"

STATES = ("pending", "sent", "stored", "confirmed", "refused", "given_up", "not_sent")


def upgrade() -> None:
    op.create_table(
        "job_revisions",
        sa.Column("job_id", RowId, nullable=False),
        sa.Column("revision_id", RowId, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_job_revisions_job_id")),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.revision_id"], name=op.f("fk_job_revisions_revision_id")),
        sa.PrimaryKeyConstraint("job_id", "revision_id", name=op.f("pk_job_revisions")),
    )
    op.create_index(op.f("ix_job_revisions_revision_id"), "job_revisions", ["revision_id"], unique=False)
    op.execute("INSERT INTO job_revisions (job_id, revision_id) SELECT job_id, revision_id FROM jobs")
    with op.batch_alter_table("deliveries") as deliveries:
        if op.get_bind().dialect.name != "sqlite":  # SQLite makes the table anew, and takes no check over
            deliveries.drop_constraint(op.f("ck_deliveries_state"), type_="check")
        deliveries.create_check_constraint(op.f("ck_deliveries_state"), f"state IN ({', '.join(map(repr, STATES))})")
