"""Looks at the files of a series: what it is, and what the rules say to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dicom_node.headers import InstanceFacts, attributes, read_facts, read_header
from dicom_node.route.policy import evaluate, keywords
from dicom_node.route.series_selection import Candidate, Standing, describe, typical
from dicom_node.settings import Route
from pipelines.foreign import refusing
from pipelines.reasons import Reason, Refusal
from reporting.uids import made_by_us


def look(
    paths: Sequence[Path], routes: Mapping[str, Route], standing: Standing, *, is_own_result: bool = False
) -> Candidate:
    """One series from its files, of which there is at least one. Unreadable files are passed over.

    The rules are asked about the header of its first typical instance. Raises `Refusal` when no file can be read.
    """
    readable: dict[str, tuple[InstanceFacts, Path]] = {}
    failures: list[Reason] = []
    for path in paths:
        try:
            facts = read_facts(path)
            readable.setdefault(facts.sop_instance_uid, (facts, path))
        except Refusal as refusal:
            failures.append(refusal.reason)
    if not readable:
        raise Refusal(failures[0])
    instances = typical([facts for facts, _ in readable.values()])
    header = read_header(readable[instances[0].sop_instance_uid][1])
    with refusing("input.malformed"):
        series = describe(instances, is_own_result=is_own_result or made_by_us(header))
    return Candidate(series, evaluate(routes, attributes(header, keywords(routes))), standing)
