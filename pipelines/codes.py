"""Every coded concept the node writes or reads, in one table.

The value, scheme and meaning of each row stand in PS3.16 unless its comment says otherwise; `docs/reference` prints the
table. A concept without a standard code is in the private scheme `99TRIAGE`. Nobody spells a code anywhere else.
"""

from __future__ import annotations

from typing import NamedTuple

PRIVATE_SCHEME = "99TRIAGE"


class Code(NamedTuple):
    """A coded concept: code value, coding scheme designator, code meaning (PS3.3, 8.8)."""

    value: str
    scheme: str
    meaning: str


# Intracranial hemorrhage. CID 3413 prints 1386000 with another meaning; ours is SNOMED CT's.
INTRACRANIAL_HEMORRHAGE = Code("1386000", "SCT", "Intracranial hemorrhage")
HEMORRHAGE = Code("50960005", "SCT", "Hemorrhage")
EPIDURAL_HEMORRHAGE = Code("EPIDURAL", PRIVATE_SCHEME, "Epidural hemorrhage")
SUBDURAL_HEMORRHAGE = Code("35486000", "SCT", "Subdural hemorrhage")
SUBARACHNOID_HEMORRHAGE = Code("21454007", "SCT", "Subarachnoid hemorrhage")
INTRAPARENCHYMAL_HEMORRHAGE = Code("274100004", "SCT", "Cerebral hemorrhage")
INTRAVENTRICULAR_HEMORRHAGE = Code("INTRAVENTRICULAR", PRIVATE_SCHEME, "Intraventricular hemorrhage")

# Presence (CID 240), finding and its context
PRESENT = Code("52101004", "SCT", "Present")
ABSENT = Code("272519000", "SCT", "Absent")
UNDETERMINED = Code("373068000", "SCT", "Undetermined")
FINDING = Code("121071", "DCM", "Finding")
FINDING_SITE = Code("363698007", "SCT", "Finding Site")
FINDING_CATEGORY = Code("276214006", "SCT", "Finding category")
LATERALITY = Code("272741003", "SCT", "Laterality")
RIGHT = Code("24028007", "SCT", "Right")
LEFT = Code("7771000", "SCT", "Left")
BILATERAL = Code("51440002", "SCT", "Bilateral")
BRAIN = Code("12738006", "SCT", "Brain")
HEAD = Code("69536005", "SCT", "Head")
LUNG = Code("39607008", "SCT", "Lung")
CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
MORPHOLOGICALLY_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")

# Nodules on chest CT: CID 6104, lobes; composition, position of height and change have no standard code
NODULE = Code("27925004", "SCT", "Nodule")
COMPOSITION = Code("COMPOSITION", PRIVATE_SCHEME, "Composition of nodule")
SOLID = Code("SOLID", PRIVATE_SCHEME, "Solid")
PART_SOLID = Code("PARTSOLID", PRIVATE_SCHEME, "Part-solid")
GROUND_GLASS = Code("GROUNDGLASS", PRIVATE_SCHEME, "Ground-glass")
CALCIFICATION_PATTERN = Code("CALCPATTERN", PRIVATE_SCHEME, "Calcification pattern of nodule")
CALCIFIED_DIFFUSE = Code("CALC_DIFFUSE", PRIVATE_SCHEME, "Diffuse calcification")
CALCIFIED_CENTRAL = Code("CALC_CENTRAL", PRIVATE_SCHEME, "Central calcification")
CALCIFIED_LAMINATED = Code("CALC_LAMINATED", PRIVATE_SCHEME, "Laminated calcification")
CALCIFIED_POPCORN = Code("CALC_POPCORN", PRIVATE_SCHEME, "Popcorn calcification")
CALCIFIED_ECCENTRIC = Code("CALC_ECCENTRIC", PRIVATE_SCHEME, "Eccentric calcification")
NON_CALCIFIED = Code("17589002", "SCT", "Non-calcified")
NODULE_POSITION = Code("POSITION", PRIVATE_SCHEME, "Position of nodule")
PERIFISSURAL = Code("PERIFISSURAL", PRIVATE_SCHEME, "Perifissural")
JUXTAPLEURAL = Code("JUXTAPLEURAL", PRIVATE_SCHEME, "Juxtapleural")
INTRAPULMONARY = Code("INTRAPULMONARY", PRIVATE_SCHEME, "Within the lung")
NODULE_SHAPE = Code("SHAPE", PRIVATE_SCHEME, "Margin and shape of nodule")
BENIGN_SHAPE = Code("BENIGNSHAPE", PRIVATE_SCHEME, "Smooth, and oval, lentiform or triangular")
LUNG_THIRD = Code("THIRD", PRIVATE_SCHEME, "Third of lung by height")
UPPER_THIRD = Code("UPPERTHIRD", PRIVATE_SCHEME, "Upper third of lung")
MIDDLE_THIRD = Code("MIDDLETHIRD", PRIVATE_SCHEME, "Middle third of lung")
LOWER_THIRD = Code("LOWERTHIRD", PRIVATE_SCHEME, "Lower third of lung")
LUNG_RADS = Code("RID50134", "RADLEX", "Lung-RADS assessment")
LUNG_RADS_0 = Code("RID50135", "RADLEX", "Lung-RADS 0")
LUNG_RADS_1 = Code("RID50136", "RADLEX", "Lung-RADS 1")
LUNG_RADS_2 = Code("RID50137", "RADLEX", "Lung-RADS 2")
LUNG_RADS_3 = Code("RID50138", "RADLEX", "Lung-RADS 3")
LUNG_RADS_4A = Code("RID50139", "RADLEX", "Lung-RADS 4A")
LUNG_RADS_4B = Code("RID50140", "RADLEX", "Lung-RADS 4B")
LUNG_RADS_4X = Code("RID50141", "RADLEX", "Lung-RADS 4X")
LUNG_RADS_ORDER = (LUNG_RADS_1, LUNG_RADS_2, LUNG_RADS_0, LUNG_RADS_3, LUNG_RADS_4A, LUNG_RADS_4B, LUNG_RADS_4X)
"""From the least to the most that is to be done; 0, incomplete, wants images within months where 2 waits a year."""
CHANGE = Code("CHANGE", PRIVATE_SCHEME, "Change since prior study")
NEW = Code("NEW", PRIVATE_SCHEME, "New")
GROWING = Code("GROWING", PRIVATE_SCHEME, "Growing")
STABLE = Code("STABLE", PRIVATE_SCHEME, "Stable")
SHRINKING = Code("SHRINKING", PRIVATE_SCHEME, "Shrinking")

# Mammography: findings (CID 6014), type (CID 6010) and distribution (CID 6012) of calcifications, assessment (CID 6027)
CALCIFICATION_CLUSTER = Code("129769006", "SCT", "Calcification Cluster")
INDIVIDUAL_CALCIFICATION = Code("129770007", "SCT", "Individual Calcification")
BREAST = Code("76752008", "SCT", "Breast")
RIGHT_BREAST = Code("73056007", "SCT", "Right breast")
LEFT_BREAST = Code("80248007", "SCT", "Left breast")
BOTH_BREASTS = Code("63762007", "SCT", "Both breasts")
CALCIFICATION_TYPE = Code("111009", "DCM", "Calcification Type")
CALCIFICATION_DISTRIBUTION = Code("111008", "DCM", "Calcification Distribution")
NUMBER_OF_CALCIFICATIONS = Code("111038", "DCM", "Number of calcifications")
ROUND = Code("129756007", "SCT", "Round shaped calcification")
PUNCTATE = Code("129755006", "SCT", "Punctate calcification")
AMORPHOUS = Code("129760005", "SCT", "Amorphous calcification")
COARSE_HETEROGENEOUS = Code("129763007", "SCT", "Heterogeneous calcification")
FINE_PLEOMORPHIC = Code("111344", "DCM", "Fine pleomorphic calcification")
FINE_LINEAR = Code("129761009", "SCT", "Fine, linear calcification")
VASCULAR = Code("129759000", "SCT", "Vascular calcification")
SKIN_CALCIFICATION = Code("129757003", "SCT", "Skin calcification")
RIM = Code("129751002", "SCT", "Eggshell calcification")
POPCORN = Code("129749001", "SCT", "Popcorn calcification")
GROUPED = Code("129766004", "SCT", "Grouped calcification distribution")
LINEAR = Code("129765000", "SCT", "Linear calcification distribution")
SEGMENTAL = Code("129768003", "SCT", "Segmental calcification distribution")
REGIONAL = Code("129767008", "SCT", "Regional calcification distribution")
DIFFUSE = Code("129764001", "SCT", "Diffuse calcification distribution")
UPPER_OUTER_QUADRANT = Code("76365002", "SCT", "Upper outer quadrant of breast")
UPPER_INNER_QUADRANT = Code("77831004", "SCT", "Upper inner quadrant of breast")
LOWER_OUTER_QUADRANT = Code("33564002", "SCT", "Lower outer quadrant of breast")
LOWER_INNER_QUADRANT = Code("19100000", "SCT", "Lower inner quadrant of breast")
BREAST_REGION = Code("BREASTREGION", PRIVATE_SCHEME, "Region of breast")
OUTER_HALF = Code("OUTERHALF", PRIVATE_SCHEME, "Outer half of breast")
INNER_HALF = Code("INNERHALF", PRIVATE_SCHEME, "Inner half of breast")
UPPER_HALF = Code("UPPERHALF", PRIVATE_SCHEME, "Upper half of breast")
LOWER_HALF = Code("LOWERHALF", PRIVATE_SCHEME, "Lower half of breast")
BREAST_DEPTH = Code("BREASTDEPTH", PRIVATE_SCHEME, "Depth in breast")
ANTERIOR_THIRD = Code("ANTERIORTHIRD", PRIVATE_SCHEME, "Anterior third of breast")
MIDDLE_THIRD_OF_BREAST = Code("MIDDLETHIRDBREAST", PRIVATE_SCHEME, "Middle third of breast")
POSTERIOR_THIRD = Code("POSTERIORTHIRD", PRIVATE_SCHEME, "Posterior third of breast")
BI_RADS = Code("111005", "DCM", "Assessment Category")
BI_RADS_0 = Code("397138000", "SCT", "0 - Need additional imaging evaluation")
BI_RADS_1 = Code("397140005", "SCT", "1 - Negative")
BI_RADS_2 = Code("397141009", "SCT", "2 - Benign Finding")
BI_RADS_3 = Code("397143007", "SCT", "3 - Probably Benign Finding")
BI_RADS_4A = Code("MA.II.A.5.4A", "BI", "4A - Low suspicion")
BI_RADS_4B = Code("MA.II.A.5.4B", "BI", "4B - Intermediate suspicion")
BI_RADS_4C = Code("MA.II.A.5.4C", "BI", "4C - Moderate suspicion")
BI_RADS_5 = Code("397145000", "SCT", "5 - Highly suggestive of malignancy")
BI_RADS_ORDER = (BI_RADS_1, BI_RADS_2, BI_RADS_3, BI_RADS_0, BI_RADS_4A, BI_RADS_4B, BI_RADS_4C, BI_RADS_5)
"""From the least to the most that is to be done."""

# Triage priority: CID 7035
ACTIONABLE_MINUTES = Code("RID49480", "RADLEX", "ACR Category 1 Actionable Finding")
ACTIONABLE_HOURS = Code("RID49481", "RADLEX", "ACR Category 2 Actionable Finding")
ACTIONABLE_DAYS = Code("RID49482", "RADLEX", "ACR Category 3 Actionable Finding")

# Measurements
VOLUME = Code("118565006", "SCT", "Volume")
LONG_AXIS = Code("103339001", "SCT", "Long Axis")
SHORT_AXIS = Code("103340004", "SCT", "Short Axis")
MEAN_ATTENUATION = Code("112181", "DCM", "Mean Attenuation Coefficient")
LONGEST_DIAMETER = Code("LONGEST3D", PRIVATE_SCHEME, "Longest diameter in three dimensions")
SOLID_LONG_AXIS = Code("SOLIDLONGAXIS", PRIVATE_SCHEME, "Long axis of the solid part")
MASS_OF_NODULE = Code("MASS", PRIVATE_SCHEME, "Mass of nodule")
MALIGNANCY_IMPRESSION = Code("MALIGNANCY", PRIVATE_SCHEME, "Likelihood that readers would suspect malignancy")
VOLUME_CHANGE = Code("VOLUMECHANGE", PRIVATE_SCHEME, "Change of volume since prior study")
DOUBLING_TIME = Code("DOUBLINGTIME", PRIVATE_SCHEME, "Volume doubling time")
DOUBLING_TIME_LOWEST = Code("DOUBLINGTIMELOW", PRIVATE_SCHEME, "Volume doubling time, lower end of 95 % interval")
DOUBLING_TIME_HIGHEST = Code("DOUBLINGTIMEHIGH", PRIVATE_SCHEME, "Volume doubling time, upper end of 95 % interval")

AREA = Code("42798000", "SCT", "Area")

# Units
SQUARE_MILLIMETER = Code("mm2", "UCUM", "square millimeter")
NO_UNITS = Code("1", "UCUM", "no units")
CUBIC_CENTIMETER = Code("cm3", "UCUM", "cubic centimeter")
MILLIMETER = Code("mm", "UCUM", "millimeter")
HOUNSFIELD = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
PERCENT = Code("%", "UCUM", "Percent")
MILLIGRAM = Code("mg", "UCUM", "milligram")
DAY = Code("d", "UCUM", "day")

# What a report says of itself: TID 1500, 2010 and 4019, CID 100, 7005, 7010, 7162 and 7474
CT_PROCEDURE = Code("25045-6", "LN", "CT unspecified body region")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
SOURCE_IMAGE_FOR_SEGMENTATION = Code("121233", "DCM", "Source image for segmentation")
SUM_OF_VOXELS = Code("126030", "DCM", "Sum of segmented voxel method for volume")
OF_INTEREST = Code("113000", "DCM", "Of Interest")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
MEASUREMENT_GROUP = Code("125007", "DCM", "Measurement Group")
TRACKING_UID = Code("112040", "DCM", "Tracking Unique Identifier")
ALGORITHM_FAMILY = Code("111000", "DCM", "Algorithm Family")
IMPRESSION = Code("121073", "DCM", "Impression")
COMMENT = Code("121106", "DCM", "Comment")
PRIORITY = Code("260870009", "SCT", "Priority")
ENGLISH = Code("en-US", "RFC5646", "English (United States)")
IMAGING_MEASUREMENT_REPORT = Code("126000", "DCM", "Imaging Measurement Report")
