"""Made data sets and what they should be read as."""

from __future__ import annotations

import zlib

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dicom_node.receive.header import Header
from dicom_node.receive.transfer_syntaxes import DEFLATED, IMPLICIT_LITTLE_ENDIAN

CT = "1.2.840.10008.5.1.4.1.1.2"

HEADER = Header(
    sop_class_uid=CT,
    sop_instance_uid="1.2.3.4",
    study_instance_uid="1.2.3",
    series_instance_uid="1.2.3.1",
    patient_id="P1",
    patient_name="Made^Up",
    accession_number="A1",
    study_date="20260301",
    study_description="HEAD",
    modality="CT",
    series_description="brain",
)


def dataset(header: Header = HEADER) -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = header.sop_class_uid, header.sop_instance_uid
    made.StudyInstanceUID, made.SeriesInstanceUID = header.study_instance_uid, header.series_instance_uid
    made.PatientID, made.PatientName, made.AccessionNumber = header.patient_id, header.patient_name, "A1"
    made.StudyDate, made.StudyDescription = header.study_date, header.study_description
    made.Modality, made.SeriesDescription = header.modality, header.series_description
    made.InstanceNumber = 1
    return made


def encoded(made: Dataset, transfer_syntax_uid: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, transfer_syntax_uid == IMPLICIT_LITTLE_ENDIAN
    write_dataset(buffer, made)
    content = buffer.getvalue()
    if transfer_syntax_uid != DEFLATED:
        return content
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush()
