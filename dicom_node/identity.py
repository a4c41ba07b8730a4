"""What this installation calls itself: in its objects and towards other AEs."""

from __future__ import annotations

from importlib.metadata import version

from dicom_node.settings import Settings
from reporting.source import Equipment
from reporting.uids import MODEL_NAME

DISTRIBUTION = "triage-node"
SOFTWARE_VERSION = version(DISTRIBUTION)


def equipment(settings: Settings) -> Equipment:
    """Who makes the objects (PS3.3, C.7.5). The AE title stands for the serial number: it is what tells nodes apart."""
    return Equipment(
        manufacturer=DISTRIBUTION,
        model_name=MODEL_NAME,
        software_version=SOFTWARE_VERSION,
        device_serial_number=settings.node.ae_title,
        institution_name=settings.node.institution_name,
    )
