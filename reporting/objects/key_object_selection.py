"""Key Object Selection Document (PS3.3, A.35.4; TID 2010): the slices that show the findings best."""

from __future__ import annotations

import highdicom as hd
from pydicom import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from pipelines import codes
from reporting.document import concept, device_observer, evidence, finish, new_document, stand_in
from reporting.narrative.narrative import Narrative
from reporting.source import ReportCase


class KeyObjectSelectionDocument:
    """Of Interest (113000): the key slice of each finding, with the impression as description. Nothing found: none."""

    kind = "key_object_selection"
    sop_class_uid = KeyObjectSelectionDocumentStorage
    series_number = 9803

    def build(self, case: ReportCase, narrative: Narrative) -> tuple[Dataset, ...]:
        slices = case.key_slices()
        if not slices:
            return ()
        images = {str(case.headers[k].SOPInstanceUID): stand_in(case, k) for k in slices}
        content = hd.ko.KeyObjectSelection(
            document_title=concept(codes.OF_INTEREST),
            referenced_objects=list(images.values()),
            observer_device_context=device_observer(case),
            description=narrative.key_object_description.format(
                impression=narrative.impression(case.outcome, case.looked_for), disclaimer=narrative.disclaimer
            ),
        )
        dataset = new_document(
            case,
            content[0],
            kind=self.kind,
            series_number=self.series_number,
            sop_class_uid=self.sop_class_uid,
            modality="KO",
        )
        dataset.CurrentRequestedProcedureEvidenceSequence = evidence(case, only=frozenset(images))
        for item in dataset.ContentSequence:
            if item.ValueType == "IMAGE":
                # TID 2010, row 8: images are unnamed; the library names them.
                del item.ConceptNameCodeSequence
                if case.multi_frame:
                    reference = item.ReferencedSOPSequence[0]
                    reference.ReferencedFrameNumber = [
                        case.frames[k]
                        for k in slices
                        if case.headers[k].SOPInstanceUID == reference.ReferencedSOPInstanceUID
                    ]
        return (finish(dataset, case, narrative.term("key images"), narrative),)


OBJECT = KeyObjectSelectionDocument()
