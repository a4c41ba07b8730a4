"""How right the told growth is: pairs of made chests in other poses, read by the shipped networks from files.

    python -m tests.bench.growth [--pairs 8] [--nodules 5] [--seed 100]

The earlier study is read alone, the later one with it as prior, as the node does. A nodule counts where both readings
found it; its error is the told ratio of volumes over the true one, less 1. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.catalogue import Prior, Reading
from pipelines.findings import Finding
from pipelines.nodule.pipeline import PIPELINE, NoduleReader, NoduleSettings
from pipelines.phantom.chest.study import ChestStudyOptions, make_study

BEFORE, NOW = date(2025, 1, 1), date(2025, 7, 1)
GROWTHS = (0.6, 1.0, 1.3, 1.6, 2.0, 3.0)


def read_pair(reader: NoduleReader, seed: int, nodules: int, folder: Path) -> dict[str, Any]:
    """The nodules of one pair: how many there are, and the errors (told over true ratio, less 1) of those matched."""
    factor = GROWTHS[seed % len(GROWTHS)]
    earlier, later = (
        make_study(folder / str(n), ChestStudyOptions(seed=seed, nodules=nodules, growth=growth))
        for n, growth in enumerate((None, factor))
    )
    told = reader.read(earlier.files)
    findings = tuple(finding.as_json() for finding in told.outcome.findings)
    now = reader.read(later.files, Prior(earlier.files, findings, "2.25.7", BEFORE))
    errors = []
    for before, after in zip(earlier.truth["nodules"], later.truth["nodules"], strict=True):  # type: ignore[call-overload]
        seen = _nearest(now, after)
        change = None if seen is None else seen.measured("volume_change_percent")
        if change is not None:
            errors.append((1 + change / 100) * before["volume_mm3"] / after["volume_mm3"] - 1)
    return {"factor": factor, "nodules": len(later.truth["nodules"]), "errors": errors}  # type: ignore[arg-type]


def _nearest(reading: Reading, truth: Mapping[str, Any]) -> Finding | None:
    """The finding that lies in a true nodule."""
    for finding in reading.outcome.findings:
        if finding.center_mm and np.linalg.norm(np.subtract(finding.center_mm, truth["center_mm"])) < max(
            2.0, truth["diameter_mm"] / 2
        ):
            return finding
    return None


def summary(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Median and quartiles of the errors' size, percent."""
    errors = 100 * np.abs(np.concatenate([pair["errors"] for pair in pairs]))
    return {
        "pairs": len(pairs),
        "nodules": sum(pair["nodules"] for pair in pairs),
        "matched": len(errors),
        "error_median_percent": round(float(np.median(errors)), 1),
        "error_quartiles_percent": np.round(np.quantile(errors, [0.25, 0.75]), 1).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--nodules", type=int, default=5)
    parser.add_argument("--seed", type=int, default=100, help="of the first pair; the next ones follow")
    options = parser.parse_args()
    reader = PIPELINE.open(NoduleSettings(device="cpu"))
    pairs = []
    for seed in range(options.seed, options.seed + options.pairs):
        with tempfile.TemporaryDirectory() as folder:
            pairs.append(read_pair(reader, seed, options.nodules, Path(folder)))
    print(json.dumps(summary(pairs) | {"by_pair": pairs}, indent=1))


if __name__ == "__main__":
    main()
