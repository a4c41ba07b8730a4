from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import select

from db.connect import Ledger
from db.instances import of_study
from db.schema import associations
from dicom_node.receive import part10
from dicom_node.receive.importing import import_files
from dicom_node.receive.policy import Announced
from dicom_node.receive.transfer_syntaxes import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN
from dicom_node.settings import Settings
from dicom_node.spool import Spool
from tests.conftest import MovableClock
from tests.unit.dicom_node.receive.made import HEADER, dataset, encoded

SETTINGS = Settings.model_validate({"receive": {"free_disk_mb": 0}})


def codes(paths: list[Path], ledger: Ledger, spool: Spool, clock: MovableClock) -> dict[str, str | None]:
    found = import_files(paths, SETTINGS, ledger, spool, notify=lambda: None, clock=clock)
    return {one.path.name: one.reason.code if one.reason else None for one in found}


def test_a_folder_is_taken_in_and_each_file_that_is_not_says_why(
    tmp_path: Path, ledger: Ledger, spool: Spool, clock: MovableClock
) -> None:
    folder = tmp_path / "disc" / "deep"
    folder.mkdir(parents=True)
    content = encoded(dataset(), EXPLICIT_LITTLE_ENDIAN)
    meta = part10.encode_meta(Announced(HEADER.sop_class_uid, HEADER.sop_instance_uid, EXPLICIT_LITTLE_ENDIAN))
    (folder / "good.dcm").write_bytes(meta + content)
    (folder / "notes.txt").write_text("no image")
    (folder / "empty.dcm").write_bytes(b"")
    big_endian = Announced(HEADER.sop_class_uid, "1.2.9", "1.2.840.10008.1.2.2")
    (folder / "big_endian.dcm").write_bytes(part10.encode_meta(big_endian) + content)
    (folder / "cut.dcm").write_bytes(meta + content[:60])
    assert codes([tmp_path / "disc", tmp_path / "absent"], ledger, spool, clock) == {
        "good.dcm": None,
        "notes.txt": "input.not_dicom",
        "empty.dcm": "input.not_dicom",
        "big_endian.dcm": "receive.transfer_syntax_not_taken",
        "cut.dcm": "receive.data_set_unreadable",
        "absent": "input.file_unreadable",
    }
    with ledger.read() as connection:
        [row] = of_study(connection, HEADER.study_instance_uid)
        [association] = connection.execute(select(associations)).all()
    assert spool.path(row.file).read_bytes().endswith(content)
    assert (association.calling_ae_title, association.ended_by) == ("IMPORT", "released")


def test_files_without_meta_information_are_read_in_either_syntax(
    tmp_path: Path, ledger: Ledger, spool: Spool, clock: MovableClock
) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    for syntax in (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN):
        made = dataset()
        made.SOPInstanceUID = syntax
        (folder / f"{syntax}.dcm").write_bytes(encoded(made, syntax))
    assert set(codes([folder], ledger, spool, clock).values()) == {None}
    with ledger.read() as connection:
        held = {
            row.sop_instance_uid: row.transfer_syntax_uid for row in of_study(connection, HEADER.study_instance_uid)
        }
    assert held == {syntax: syntax for syntax in (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN)}


def test_every_odd_file_is_held_or_refused_with_a_reason(
    triage_data: Path, tmp_path: Path, ledger: Ledger, spool: Spool, clock: MovableClock
) -> None:
    found = codes([triage_data / "odd"], ledger, spool, clock)
    files = [path for path in (triage_data / "odd").iterdir() if path.is_file()]
    assert len(found) == len(files)
    assert sum(code is None for code in found.values()) > 50
    held = [path for path in spool.root.rglob("*") if path.is_file()]
    assert all(re.fullmatch(r"[0-9a-f]{64}\.dcm", path.name) for path in held)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"spool"}
