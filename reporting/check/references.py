"""References: everything named exists among source and results, and all belong to one patient and study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydicom import Dataset

from reporting.source import OPTIONAL, REQUIRED, ReportCase, inherit


def shared_faults(case: ReportCase, dataset: Dataset) -> Iterator[str]:
    """Where one object is not of the source's patient and study."""
    expected = inherit(case.headers[0]).attributes
    for keyword in ("StudyInstanceUID", *REQUIRED, *OPTIONAL):
        if (keyword in expected) != (keyword in dataset) or expected.get(keyword) != dataset.get(keyword):
            yield f"{keyword} is not the source's"


def reference_faults(case: ReportCase, datasets: Mapping[str, Sequence[Dataset]]) -> Iterator[tuple[str, str]]:
    """References that lead nowhere or are no evidence, and UIDs that are not the object's own."""
    images = (*case.headers, *case.refused_headers)
    sources = {str(header.SOPInstanceUID): str(header.SOPClassUID) for header in images}
    every = [(kind, dataset) for kind, of_kind in datasets.items() for dataset in of_kind]
    results = {str(dataset.SOPInstanceUID): str(dataset.SOPClassUID) for _, dataset in every}
    series: dict[str, set[str]] = {str(header.SeriesInstanceUID): {"source"} for header in images}
    for kind, dataset in every:
        series.setdefault(str(dataset.SeriesInstanceUID), set()).add(kind)
    if len(results) < len(every) or results.keys() & sources.keys():
        yield from ((kind, "SOPInstanceUID is not its own") for kind in datasets)
    for kind, dataset in every:
        if series[str(dataset.SeriesInstanceUID)] != {kind}:
            yield kind, "SeriesInstanceUID is not its own"
        for sop_class_uid, sop_instance_uid in _references(dataset):
            if (sources | results).get(sop_instance_uid) != sop_class_uid:
                yield kind, "an object is referenced that is neither source nor result"
        for detail in _evidence_faults(dataset):
            yield kind, detail
    yield from _tracking_faults(every)


def _evidence_faults(dataset: Dataset) -> Iterator[str]:
    """PS3.3, C.17.2.1: what a document's content references is evidence of its own study."""
    if "ContentSequence" not in dataset:
        return
    listed = set()
    for study in dataset.get("CurrentRequestedProcedureEvidenceSequence") or ():
        if study.StudyInstanceUID != dataset.StudyInstanceUID:
            yield "evidence is of another study"
        for series in study.ReferencedSeriesSequence:
            listed |= {str(item.ReferencedSOPInstanceUID) for item in series.ReferencedSOPSequence}
    content = Dataset()
    content.ContentSequence = dataset.ContentSequence
    if not {uid for _, uid in _references(content)} <= listed:
        yield "its content references what its evidence does not list"


def _tracking_faults(every: Sequence[tuple[str, Dataset]]) -> Iterator[tuple[str, str]]:
    """A measurement group and the segment it references have the same tracking identifiers (IHE AI Results)."""
    segments = {
        (str(dataset.SOPInstanceUID), int(item.SegmentNumber)): (item.get("TrackingID"), item.get("TrackingUID"))
        for _, dataset in every
        for item in dataset.get("SegmentSequence") or ()
    }
    for kind, dataset in every:
        for group in _groups(dataset):
            tracking = {str(item.ConceptNameCodeSequence[0].CodeValue): item for item in group.ContentSequence}
            reference = tracking.get("121191")
            if reference is None:
                continue
            target = reference.ReferencedSOPSequence[0]
            key = (str(target.ReferencedSOPInstanceUID), int(target.ReferencedSegmentNumber))
            text, uid = tracking.get("112039", Dataset()), tracking.get("112040", Dataset())
            if segments.get(key) != (text.get("TextValue"), uid.get("UID")):
                yield kind, "a measurement group is not tracked as its segment is"


def _groups(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or ():
        names = child.get("ConceptNameCodeSequence")
        if names and names[0].CodeValue == "125007":
            yield child
        else:
            yield from _groups(child)


def _references(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Class and instance UID of every reference, at any depth."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                if "ReferencedSOPInstanceUID" in item:
                    yield str(item.get("ReferencedSOPClassUID", "")), str(item.ReferencedSOPInstanceUID)
                yield from _references(item)
