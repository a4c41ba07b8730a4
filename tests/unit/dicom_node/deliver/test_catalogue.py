"""A new kind of destination is one new file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from dicom_node.deliver import catalogue, destinations
from dicom_node.settings import ConfigurationError, load, parse

NEW_FILE = """
from dicom_node.settings import Destination

class PigeonSettings(Destination):
    kind: str = "pigeon"
    ring_number: int

class Pigeon:
    name = "pigeon"
    settings = PigeonSettings

KIND = Pigeon()
"""


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(destinations, "__path__", [*destinations.__path__, str(tmp_path)])
    catalogue.catalogue.cache_clear()
    yield tmp_path
    catalogue.catalogue.cache_clear()
    for name in [name for name in sys.modules if name.startswith(f"{destinations.__name__}.made_")]:
        del sys.modules[name]


def test_one_new_file_and_one_table_are_enough(room: Path) -> None:
    (room / "made_pigeon.py").write_text(NEW_FILE)
    settings = parse('[destinations.roof]\nkind = "pigeon"\nring_number = 7')
    assert settings.destinations["roof"].model_dump()["ring_number"] == 7
    assert '"ring_number":7' in settings.model_dump_json()


def test_two_of_one_name_are_refused(room: Path) -> None:
    (room / "made_pigeon.py").write_text(NEW_FILE)
    (room / "made_other.py").write_text(NEW_FILE)
    with pytest.raises(ValueError, match="two kinds of destination are named pigeon"):
        catalogue.catalogue()


def test_every_mistake_of_a_table_is_told_with_its_path(tmp_path: Path) -> None:
    file = tmp_path / "service.toml"
    file.write_text(
        '[destinations.pacs]\nae_title = "PACS"\nhost = "h"\nprot = 104\nport = 99999\n'
        '[destinations.b]\nkind = "dimes"\n'
    )
    with pytest.raises(ConfigurationError) as caught:
        load(file)
    told = caught.value.problems
    assert any(line.startswith("destinations.pacs.port: ") for line in told)
    assert "destinations.pacs.prot: there is no such key; did you mean port?" in told
    assert any(line.startswith("destinations.b: dimes is no kind of destination; did you mean dimse?") for line in told)


def test_a_destination_needs_its_address() -> None:
    with pytest.raises(ValidationError, match=r"destinations\.pacs\.host"):
        parse('[destinations.pacs]\nae_title = "PACS"\nport = 104')
