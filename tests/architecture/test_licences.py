"""Nothing that is installed to run or develop the program is under a licence of the GPL family."""

from __future__ import annotations

import re
from importlib.metadata import metadata

import pytest

from tests.conftest import REPOSITORY

LOCKED = [
    line.split("==")[0].strip()
    for line in (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if "==" in line and not line.startswith("#")
]
WANTED = [
    re.split(r"[=<>]", line)[0].strip()
    for line in (REPOSITORY / "requirements.in").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
PERMISSIVE = re.compile(
    r"\b(MIT|MIT-CMU|BSD|ISC|Apache|PSF|Python Software Foundation|MPL|Mozilla Public License|Zlib|0BSD)\b"
)
COPYLEFT = re.compile(r"\b[AL]?GPL|GNU (Affero |Lesser |Library )?General Public", re.IGNORECASE)


def licence_of(distribution: str) -> str:
    """What the distribution declares: its expression, else its classifiers, else the first line of its text."""
    held = metadata(distribution)
    if expressions := held.get_all("License-Expression"):
        return str(expressions[0])
    classifiers = [one for one in held.get_all("Classifier") or () if one.startswith("License ::")]
    texts = held.get_all("License") or ("",)
    return "; ".join(classifiers) or str(texts[0]).partition("\n")[0]


@pytest.mark.parametrize("distribution", LOCKED)
def test_licence_is_permissive(distribution: str) -> None:
    licence = licence_of(distribution)
    assert not COPYLEFT.search(licence), f"{distribution}: {licence}"
    assert PERMISSIVE.search(licence), f"{distribution} declares {licence or 'no licence'}"


def test_every_dependency_is_locked_and_has_its_reason() -> None:
    assert {_normal(name) for name in WANTED} <= {_normal(name) for name in LOCKED}
    decision = (REPOSITORY / "docs" / "decisions" / "0002-dependencies.md").read_text(encoding="utf-8")
    told = {_normal(name) for name in re.findall(r"^\| ([a-zA-Z][\w-]*) \|", decision, re.MULTILINE)}
    assert told - {"package"} == {_normal(name) for name in WANTED}


@pytest.mark.parametrize("licence", ["GPL-3.0-only", "LGPL-2.1-or-later", "GNU Affero General Public License v3"])
def test_copyleft_would_be_seen(licence: str) -> None:
    assert COPYLEFT.search(licence)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
