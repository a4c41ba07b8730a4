"""The models at hand: weights in `safetensors` beside a manifest that says what they are and what their hash must be.

`models/weights/NAME.json` is the manifest of `models/weights/NAME.safetensors`. Weights that do not match their
manifest are never loaded, and pickles are never read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

WEIGHTS_FOLDER = Path(__file__).parent / "weights"


class UnverifiedModelError(ValueError):
    """Weights, or their manifest, are missing, unreadable or not the pair that they should be."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a file of weights is; its JSON has exactly these fields.

    `sha256` is that of the whole weights file. `architecture` has the `name` of the module in `models.architectures`
    that the weights fit and its `arguments`. `inputs` says what the network is given (channels, spacing, range of
    values), `calibration` how its output becomes a score and where answers change, `figures` what was measured.
    `licence`, `intended_use` and `data` (what it was trained and measured on) are for people.
    """

    name: str
    version: str
    sha256: str
    licence: str
    intended_use: str
    data: str
    architecture: Mapping[str, Any]
    inputs: Mapping[str, Any]
    calibration: Mapping[str, float]
    figures: Mapping[str, Any]

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Parse a manifest. Raises `UnverifiedModelError` when a field is missing, unknown or of the wrong type."""
        try:
            document = json.loads(text)
        except ValueError as error:
            raise UnverifiedModelError("the manifest is not JSON") from error
        texts = {field.name for field in fields(Manifest) if field.type == "str"}
        tables = {field.name for field in fields(Manifest)} - texts
        if not isinstance(document, dict) or set(document) != texts | tables:
            raise UnverifiedModelError(f"the manifest must have exactly the fields {sorted(texts | tables)}")
        for names, wanted in ((texts, str), (tables, dict)):
            if wrong := sorted(name for name in names if not isinstance(document[name], wanted)):
                raise UnverifiedModelError(f"the manifest has wrong values in {wrong}")
        return Manifest(**document)


@dataclass(frozen=True, slots=True)
class Model:
    """A verified pair of weights file and manifest."""

    manifest: Manifest
    weights: Path


def names(folder: Path = WEIGHTS_FOLDER) -> tuple[str, ...]:
    """The models that have a manifest in `folder`, in alphabetical order; not yet verified."""
    return tuple(sorted(path.stem for path in folder.glob("*.json")))


def manifest_of(name: str, folder: Path = WEIGHTS_FOLDER) -> Manifest:
    """The manifest of that name, for reading about a model. Raises `UnverifiedModelError`."""
    try:
        return Manifest.from_json((folder / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UnverifiedModelError(f"model {name}: {type(error).__name__}") from error
    except UnverifiedModelError as error:
        raise UnverifiedModelError(f"model {name}: {error}") from error


def verify(name: str, folder: Path = WEIGHTS_FOLDER) -> Model:
    """The model of that name once its weights match its manifest. Raises `UnverifiedModelError` otherwise."""
    weights = folder / f"{name}.safetensors"
    manifest = manifest_of(name, folder)
    try:
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    except OSError as error:
        raise UnverifiedModelError(f"model {name}: {type(error).__name__}") from error
    if manifest.name != name:
        raise UnverifiedModelError(f"the manifest {name}.json is that of {manifest.name}")
    if digest != manifest.sha256:
        raise UnverifiedModelError(f"the weights of {name} have the hash {digest}, not {manifest.sha256}")
    return Model(manifest, weights)
