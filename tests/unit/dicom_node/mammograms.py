"""Made mammography studies: views in series of their own, small, with all that a report asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation

from tests.unit.dicom_node.made import header

VIEWS = ("R CC", "L CC", "R MLO", "L MLO")
CODES = {"CC": "399162004", "MLO": "399368009"}
ROWS, COLUMNS = 96, 64


def view(series: int, name: str, *, number: int = 1, study: int = 1, **changes: Any) -> Dataset:
    """One view, such as `R CC`. A change to None removes."""
    side, projection = name.split()
    made = header(series, number, study=study, ConvolutionKernel=None, SliceThickness=None, ImagePositionPatient=None)
    del made.ImageOrientationPatient
    made.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    made.Modality = "MG"
    made.BodyPartExamined = "BREAST"
    made.ImageType = ["DERIVED", "PRIMARY"]
    made.SeriesDescription = name
    made.ImageLaterality = side
    made.ViewPosition = projection
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = CODES[projection], "SCT", projection
    code.ViewModifierCodeSequence = []
    made.ViewCodeSequence = [code]
    made.PatientOrientation = ["P", "L"] if side == "R" else ["A", "R"]
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = "Test^Breast", "T2", "", "F"
    made.StudyDate, made.StudyTime, made.StudyID, made.AccessionNumber = "20260301", "120000", "2", "A2"
    made.SeriesDate, made.SeriesTime, made.ContentDate, made.ContentTime = ("20260301", "120000") * 2
    made.AcquisitionDate, made.AcquisitionTime = "20260301", "120000"
    made.ReferringPhysicianName = ""
    made.PresentationIntentType = "FOR PRESENTATION"
    made.BreastImplantPresent = "NO"
    made.BurnedInAnnotation = "NO"
    made.ImagerPixelSpacing = [0.07, 0.07]
    made.Rows, made.Columns = ROWS, COLUMNS
    made.PhotometricInterpretation = "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.PixelIntensityRelationship, made.PixelIntensityRelationshipSign = "LOG", -1
    made.RescaleIntercept, made.RescaleSlope, made.RescaleType = 0, 1, "US"
    made.WindowCenter, made.WindowWidth = 2048, 4096
    made.LossyImageCompression = "00"
    made.PresentationLUTShape = "IDENTITY"
    for keyword, value in changes.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    return made


def magnified(made: Dataset) -> Dataset:
    """The same view with a modifier."""
    modifier = Dataset()
    modifier.CodeValue, modifier.CodingSchemeDesignator, modifier.CodeMeaning = "399163009", "SCT", "Magnification"
    made.ViewCodeSequence[0].ViewModifierCodeSequence = [modifier]
    return made


def with_pixels(made: Dataset) -> Dataset:
    """A breast at the chest wall, the rest black."""
    rows, columns = np.mgrid[: made.Rows, : made.Columns]
    from_wall = made.Columns - 1 - columns if made.get("ImageLaterality") == "R" else columns
    inside = (from_wall / made.Columns) ** 2 + ((rows - made.Rows / 2) / (made.Rows / 2)) ** 2 < 1
    made.PixelData = np.where(inside, 1500 + 8 * rows, 0).astype(np.uint16).tobytes()
    return made


def four_views(**changes: Any) -> list[Dataset]:
    """Series 1 to 4."""
    return [view(series, name, **changes) for series, name in enumerate(VIEWS, start=1)]
