"""Pushes files as a scanner would: with DCMTK's storescu where it is installed, else with our own SCU."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pydicom
from pynetdicom import AE, build_context

from dicom_node.reactor import stand_still_while_asking

AE_TITLE = "CT_DEMO"


def product() -> str:
    """What `push` uses, for people."""
    return "DCMTK storescu" if shutil.which("storescu") else "our own SCU (DCMTK is not installed)"


def push(files: Sequence[Path], *, port: int, called_ae_title: str) -> None:
    """Send all files over one association; returns after the last response. Raises `RuntimeError` when one failed."""
    if binary := shutil.which("storescu"):
        _with_storescu(binary, files, port, called_ae_title)
    else:
        _with_our_scu(files, port, called_ae_title)


def _with_storescu(binary: str, files: Sequence[Path], port: int, called_ae_title: str) -> None:
    command = [binary, "-aet", AE_TITLE, "-aec", called_ae_title, "127.0.0.1", str(port)]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"storescu failed: {done.stderr.strip()[-300:]}")


def _with_our_scu(files: Sequence[Path], port: int, called_ae_title: str) -> None:
    wanted = {(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for meta in map(_meta, files)}
    ae = AE(ae_title=AE_TITLE)
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in sorted(wanted)]
    association = ae.associate("127.0.0.1", port, contexts, ae_title=called_ae_title)
    if not association.is_established:
        raise RuntimeError("the node did not accept the association")
    stand_still_while_asking(association)
    try:
        for file in files:
            status = association.send_c_store(file)
            if not status or status.Status != 0:
                raise RuntimeError(f"the node did not store an instance (status {status.get('Status', 'none')})")
    finally:
        association.release()


def _meta(file: Path) -> pydicom.dataset.FileMetaDataset:
    return pydicom.dcmread(file, specific_tags=["SOPInstanceUID"]).file_meta
