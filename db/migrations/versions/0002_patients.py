"""Earlier studies of a patient are looked for by the Patient ID."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index(op.f("ix_studies_patient_id"), "studies", ["patient_id"], unique=False)
