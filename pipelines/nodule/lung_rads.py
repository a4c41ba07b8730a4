"""Which Lung-RADS v2022 category the facts about a nodule suggest: one table of rules, the first that applies counts.

Sources: American College of Radiology Committee on Lung-RADS, Lung CT Screening Reporting and Data System (Lung-RADS)
v2022, assessment categories, November 2022, with its notes; Christensen J, Prosper AE, Wu CC, et al. ACR Lung-RADS
v2022: Assessment Categories and Management Recommendations. J Am Coll Radiol 2024, 21(3):473-488
(doi 10.1016/j.jacr.2023.09.009) and Chest 2024, 165(3):738-753 (doi 10.1016/j.chest.2023.10.028).

Where the table of v2022 is silent, the more suspicious reading is taken:

- A new part-solid nodule of 6 mm or more counts as one with a new solid component.
- A nodule that neither grows nor is new goes by its last category (stable, see the rules of that name), but one that
  reaches a higher size class goes by the sizes at baseline, growing or not (note 5).
- A stable nodule of category 4B stays 4B until it is proven benign, and one of 3 or 4A keeps its category until the
  follow-up is due. A follow-up half a month early counts as being on time.
- A growing ground-glass nodule of 30 mm or more is category 3; a subsegmental airway nodule that grows goes by the
  sizes of its composition; a part-solid nodule that grows in its ground-glass part alone goes by the sizes at baseline.
- Over more than 12 months, growth is what comes to more than 1.5 mm in 12 months, taken evenly; what comes to more than
  1.5 mm in all, but to less in 12 months, is slow growth.

What a reader has to tell, because no image analysis here can: infection, fat, cysts, airway nodules, secretions, proof
of a benign nature, features that raise suspicion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor, isfinite
from typing import Literal

from pipelines import codes
from pipelines.codes import Code

VERSION = "v2022"

Composition = Literal["solid", "part_solid", "ground_glass"]
Calcification = Literal["none", "diffuse", "central", "laminated", "popcorn", "eccentric"]
Position = Literal["intrapulmonary", "juxtapleural", "perifissural", "airway_subsegmental", "airway_proximal"]
Cyst = Literal["thick_walled", "multilocular"]
CystChange = Literal["none", "larger_cavity", "thicker_wall", "became_multilocular", "larger", "denser"]
Trend = Literal["baseline", "new", "growing", "slow", "stable"]
CategoryName = Literal["0", "1", "2", "3", "4A", "4B", "4X"]

CODES: Mapping[CategoryName, Code] = {
    "0": codes.LUNG_RADS_0,
    "1": codes.LUNG_RADS_1,
    "2": codes.LUNG_RADS_2,
    "3": codes.LUNG_RADS_3,
    "4A": codes.LUNG_RADS_4A,
    "4B": codes.LUNG_RADS_4B,
    "4X": codes.LUNG_RADS_4X,
}
SUSPICION: tuple[CategoryName, ...] = ("1", "2", "0", "3", "4A", "4B", "4X")
"""From the least to the most. An incomplete examination stands above a negative one and below a positive one: what is
missing cannot take back what was found."""

BENIGN_CALCIFICATION: frozenset[Calcification] = frozenset({"diffuse", "central", "popcorn", "laminated"})
"""Complete, central, popcorn and concentric rings in the table's words."""
GROWTH_MM = 1.5
GROWTH_MONTHS = 12.0
SIX_MONTHS, THREE_MONTHS = 5.5, 2.5
"""Follow-up after these many months counts as that at 6 and at 3 months."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class NoduleFacts:
    """What is known of one nodule at one examination.

    Diameters are means of long and short axis in mm (see `mean_diameter`); that of the solid component must be given
    for a part-solid nodule. `prior` is the same nodule at the examination before, None where there was no examination
    or the nodule was not there; in the second case `is_new` says so. Raises `ValueError` for facts that contradict.
    """

    composition: Composition
    mean_diameter_mm: float
    solid_mean_diameter_mm: float | None = None
    calcification: Calcification = "none"
    position: Position = "intrapulmonary"
    prior: Earlier | None = None
    is_new: bool = False
    resolved: bool = False
    """It was there before and is there no more; sizes are then those of before."""
    suspicious_features: bool = False
    """Spiculation, enlarged lymph nodes, metastases, a ground-glass nodule twice as large within a year, or other
    features that raise the suspicion of lung cancer (note 14)."""
    benign_shape: bool = False
    """Smooth margins, and oval, lentiform or triangular: asked of juxtapleural nodules."""
    contains_fat: bool = False
    inflammatory: bool = False
    """A sign of infection or inflammation rather than a nodule (note 10)."""
    airway_contains_air: bool = False
    """Air in or around an airway lesion, without a soft-tissue nodule: rather secretions (note 11)."""
    proven_benign: bool = False
    """By diagnostic workup."""
    cyst: Cyst | None = None
    """Kind of an atypical pulmonary cyst (note 12)."""
    cyst_change: CystChange = "none"

    def __post_init__(self) -> None:
        if not (isfinite(self.mean_diameter_mm) and self.mean_diameter_mm > 0):
            raise ValueError("the mean diameter must be above 0 mm")
        if self.composition == "part_solid" and self.solid_mean_diameter_mm is None:
            raise ValueError("a part-solid nodule has a solid component: its mean diameter must be given")
        if self.is_new and self.prior is not None:
            raise ValueError("a new nodule has no prior")

    @property
    def size_mm(self) -> float:
        """Mean diameter to one decimal, as sizes are to be reported (note 4)."""
        return _tenths(self.mean_diameter_mm)

    @property
    def solid_mm(self) -> float:
        """Mean diameter of what is solid, to one decimal."""
        if self.composition == "solid":
            return self.size_mm
        return _tenths(self.solid_mean_diameter_mm or 0.0) if self.composition == "part_solid" else 0.0


@dataclass(frozen=True, slots=True)
class Earlier:
    """A nodule at the examination before, `months` earlier, with the category it was given if one was."""

    facts: NoduleFacts
    months: float
    category: CategoryName | None = None

    def __post_init__(self) -> None:
        if not (isfinite(self.months) and self.months > 0):
            raise ValueError("a prior examination lies at least some time before")


@dataclass(frozen=True, slots=True)
class _Case:
    """Facts with what follows from them. `held` is the category before; `crossed`: it reached a higher size class."""

    facts: NoduleFacts
    size: float
    solid: float
    trend: Trend
    component_changed: bool
    held: CategoryName | None
    months: float
    crossed: bool

    @property
    def is_first(self) -> bool:
        return self.trend in {"baseline", "new"}

    def stays(self, *held: CategoryName, months: float = 0.0) -> bool:
        """Stable or smaller, since an examination at least `months` ago that gave one of these categories."""
        return self.trend == "stable" and not self.crossed and self.held in held and self.months >= months


@dataclass(frozen=True, slots=True)
class Rule:
    """A row: the category that a finding suggests. `id` begins with the category and is stable."""

    id: str
    category: CategoryName
    finding: str
    applies: Callable[[_Case], bool]


@dataclass(frozen=True, slots=True)
class Category:
    """A suggested category, and the rule it comes from."""

    name: CategoryName
    rule: str
    finding: str

    @property
    def code(self) -> Code:
        return CODES[self.name]


def _solid(case: _Case) -> bool:
    return case.facts.composition == "solid"


def _part_solid(case: _Case) -> bool:
    return case.facts.composition == "part_solid"


def _ground_glass(case: _Case) -> bool:
    return case.facts.composition == "ground_glass"


def _cyst(case: _Case, kind: Cyst, change: CystChange) -> bool:
    return case.facts.cyst == kind and case.facts.cyst_change == change


def _is_benign_juxtapleural(case: _Case) -> bool:
    facts = case.facts
    beside_pleura = facts.position in {"juxtapleural", "perifissural"}
    return _solid(case) and beside_pleura and facts.benign_shape and case.is_first and case.size < 10


RULES: tuple[Rule, ...] = (
    Rule("1.none", "1", "No lung nodule (what was there has resolved)", lambda c: c.facts.resolved),
    Rule("0.inflammatory", "0", "Findings suggestive of an inflammatory or infectious process (note 10)",
         lambda c: c.facts.inflammatory and not c.facts.suspicious_features),
    Rule("1.calcified", "1", "Complete, central, popcorn or concentric-ring calcification",
         lambda c: c.facts.calcification in BENIGN_CALCIFICATION),
    Rule("1.fat", "1", "Fat-containing nodule", lambda c: c.facts.contains_fat),
    Rule("2.proven_benign", "2", "Lesion proven benign by diagnostic workup", lambda c: c.facts.proven_benign),
    Rule("4B.cyst_wall", "4B", "Thick-walled cyst with growing wall thickness or nodularity (note 12)",
         lambda c: _cyst(c, "thick_walled", "thicker_wall")),
    Rule("4B.cyst_larger", "4B", "Growing multilocular cyst", lambda c: _cyst(c, "multilocular", "larger")),
    Rule("4B.cyst_denser", "4B", "Multilocular cyst with increased loculation or new or increased opacity",
         lambda c: _cyst(c, "multilocular", "denser")),
    Rule("4A.cyst_became", "4A", "Thin- or thick-walled cyst that becomes multilocular",
         lambda c: _cyst(c, "multilocular", "became_multilocular")),
    Rule("3.cyst_cavity", "3", "Thick-walled cyst with a growing cystic component",
         lambda c: _cyst(c, "thick_walled", "larger_cavity")),
    Rule("2.airway_air", "2", "Airway abnormality that contains air, without a soft-tissue nodule (note 11)",
         lambda c: c.facts.position.startswith("airway") and c.facts.airway_contains_air),
    Rule("4A.airway", "4A", "Airway nodule, segmental or more proximal, at baseline or new (note 11)",
         lambda c: c.facts.position == "airway_proximal" and c.is_first),
    Rule("4B.airway", "4B", "Airway nodule, segmental or more proximal, stable or growing",
         lambda c: c.facts.position == "airway_proximal"),
    Rule("2.airway_subsegmental", "2", "Airway nodule, subsegmental, at baseline, new or stable",
         lambda c: c.facts.position == "airway_subsegmental" and c.trend not in {"growing", "slow"}),
    Rule("2.juxtapleural", "2", "Juxtapleural nodule < 10 mm at baseline or new: solid, smooth margins, and oval, "
         "lentiform or triangular", _is_benign_juxtapleural),
    Rule("2.ground_glass", "2", "Ground-glass nodule < 30 mm at baseline, new or growing",
         lambda c: _ground_glass(c) and c.size < 30),
    Rule("2.ground_glass_large", "2", "Ground-glass nodule >= 30 mm, stable or slowly growing (note 7)",
         lambda c: _ground_glass(c) and c.trend in {"stable", "slow"} and not c.crossed),
    Rule("3.ground_glass", "3", "Ground-glass nodule >= 30 mm at baseline or new", _ground_glass),
    Rule("4B.slow", "4B", "Solid or part-solid nodule that grows slowly over several examinations (note 8)",
         lambda c: c.trend == "slow"),
    Rule("4B.solid_growing", "4B", "Solid nodule >= 8 mm, growing",
         lambda c: _solid(c) and c.trend == "growing" and c.size >= 8),
    Rule("4A.solid_growing", "4A", "Solid nodule < 8 mm, growing", lambda c: _solid(c) and c.trend == "growing"),
    Rule("3.part_solid_new", "3", "Part-solid nodule < 6 mm in all, new",
         lambda c: _part_solid(c) and c.trend == "new" and c.size < 6),
    Rule("4B.component", "4B", "Part-solid nodule with a new or growing solid component >= 4 mm",
         lambda c: _part_solid(c) and c.component_changed and c.solid >= 4),
    Rule("4A.component", "4A", "Part-solid nodule with a new or growing solid component < 4 mm",
         lambda c: _part_solid(c) and c.component_changed),
    Rule("2.stable_2", "2", "Category 2 lesion that is stable or decreased in size", lambda c: c.stays("2")),
    Rule("2.stable_3", "2", "Category 3 lesion that is stable or decreased in size at 6-month follow-up",
         lambda c: c.stays("3", months=SIX_MONTHS)),
    Rule("3.stable_3", "3", "Category 3 lesion, stable, follow-up at 6 months not yet due", lambda c: c.stays("3")),
    Rule("3.stable_4A", "3", "Category 4A lesion that is stable or decreased in size at 3-month follow-up",
         lambda c: c.stays("4A", months=THREE_MONTHS)),
    Rule("4A.stable_4A", "4A", "Category 4A lesion, stable, follow-up at 3 months not yet due",
         lambda c: c.stays("4A")),
    Rule("4B.stable_4B", "4B", "Category 4B or 4X lesion, stable, not proven benign", lambda c: c.stays("4B", "4X")),
    Rule("4A.cyst_thick", "4A", "Thick-walled cyst", lambda c: c.facts.cyst == "thick_walled"),
    Rule("4A.cyst_multilocular", "4A", "Multilocular cyst at baseline", lambda c: c.facts.cyst == "multilocular"),
    Rule("2.solid_new", "2", "Solid nodule < 4 mm, new", lambda c: _solid(c) and c.trend == "new" and c.size < 4),
    Rule("3.solid_new", "3", "Solid nodule 4 to < 6 mm, new", lambda c: _solid(c) and c.trend == "new" and c.size < 6),
    Rule("4A.solid_new", "4A", "Solid nodule 6 to < 8 mm, new",
         lambda c: _solid(c) and c.trend == "new" and c.size < 8),
    Rule("4B.solid_new", "4B", "Solid nodule >= 8 mm, new", lambda c: _solid(c) and c.trend == "new"),
    Rule("2.solid", "2", "Solid nodule < 6 mm at baseline", lambda c: _solid(c) and c.size < 6),
    Rule("3.solid", "3", "Solid nodule 6 to < 8 mm at baseline", lambda c: _solid(c) and c.size < 8),
    Rule("4A.solid", "4A", "Solid nodule 8 to < 15 mm at baseline", lambda c: _solid(c) and c.size < 15),
    Rule("4B.solid", "4B", "Solid nodule >= 15 mm at baseline", _solid),
    Rule("2.part_solid", "2", "Part-solid nodule < 6 mm in all at baseline", lambda c: c.size < 6),
    Rule("3.part_solid", "3", "Part-solid nodule >= 6 mm in all with a solid component < 6 mm at baseline",
         lambda c: c.solid < 6),
    Rule("4A.part_solid", "4A", "Part-solid nodule >= 6 mm in all with a solid component of 6 to < 8 mm at baseline",
         lambda c: c.solid < 8),
    Rule("4B.part_solid", "4B", "Part-solid nodule with a solid component >= 8 mm at baseline", lambda _: True),
)  # fmt: skip
"""Every facts have a rule. What "at baseline" says also goes for a nodule that reached a higher size class (note 5)."""

NO_NODULE = Category("1", "1.none", "No lung nodule")
LUNGS_NOT_EVALUATED = Category("0", "0.lungs", "Part or all of the lungs cannot be evaluated")
PRIOR_AWAITED = Category("0", "0.prior", "Prior chest CT being located for comparison (note 9)")
SUSPICIOUS_RULE = "4X.features"
SUSPICIOUS_FINDING = "with features that raise the suspicion of lung cancer (note 14)"


def categorize(facts: NoduleFacts) -> Category:
    """The category that the facts of one nodule suggest; 4X where one of 3 or 4 has features that raise suspicion."""
    case = _case(facts)
    rule = next(rule for rule in RULES if rule.applies(case))
    if facts.suspicious_features and rule.category in {"3", "4A", "4B"}:
        return Category("4X", SUSPICIOUS_RULE, f"{rule.finding}, {SUSPICIOUS_FINDING}")
    return Category(rule.category, rule.id, rule.finding)


def study_category(
    nodules: Iterable[Category], *, lungs_evaluated: bool = True, prior_awaited: bool = False
) -> Category:
    """The category of the examination: that of its most suspicious nodule (note 1), category 1 without one.

    An examination that is incomplete is category 0 unless a nodule suggests 3 or more.
    """
    found = [NO_NODULE, *nodules]
    found += [] if lungs_evaluated else [LUNGS_NOT_EVALUATED]
    found += [PRIOR_AWAITED] if prior_awaited else []
    return max(found, key=lambda category: SUSPICION.index(category.name))


def suggestion(category: Category) -> str:
    """The category in words for a report: always a suggestion."""
    return (
        f"Lung-RADS {VERSION} category {category.name} suggested ({category.finding}); Lung-RADS applies to lung "
        "cancer screening only, and the radiologist's assessment decides."
    )


def mean_diameter(long_axis_mm: float, short_axis_mm: float) -> float:
    """Mean of both axes, each to one decimal, to one decimal (note 4); mm."""
    return _tenths((_tenths(long_axis_mm) + _tenths(short_axis_mm)) / 2)


def _tenths(millimeters: float) -> float:
    return floor(millimeters * 10 + 0.5 + _ROUNDING) / 10


def _case(facts: NoduleFacts) -> _Case:
    prior = facts.prior
    return _Case(
        facts=facts,
        size=facts.size_mm,
        solid=facts.solid_mm,
        trend=_trend(facts),
        component_changed=_component_changed(facts),
        held=None if prior is None else prior.category or categorize(prior.facts).name,
        months=prior.months if prior else 0.0,
        crossed=prior is not None and _size_class(facts) > _size_class(prior.facts),
    )


def _size_class(facts: NoduleFacts) -> int:
    """How suspicious the sizes alone would be at baseline."""
    alone = replace(facts, prior=None, is_new=False, suspicious_features=False, cyst_change="none")
    return SUSPICION.index(categorize(alone).name)


def _trend(facts: NoduleFacts) -> Trend:
    if facts.prior is None:
        return "new" if facts.is_new else "baseline"
    sizes = [(facts.size_mm - then.size_mm, months) for then, months in _earlier(facts)]
    solid = [(facts.solid_mm - then.solid_mm, months) for then, months in _earlier(facts)]
    # a component that was not there is new, it does not grow slowly
    component = [step for step, (then, _) in zip(solid, _earlier(facts), strict=True) if then.solid_mm > 0]
    if _is_slow(sizes) or (facts.composition != "ground_glass" and _is_slow(component)):
        return "slow"
    # a nodule that has become solid throughout grew as a solid nodule, whatever its outer size did
    steps = sizes + solid if facts.composition == "solid" else sizes
    return "growing" if any(_is_growth(*step) for step in steps) else "stable"


def _component_changed(facts: NoduleFacts) -> bool:
    """Whether the solid component of a part-solid nodule is new or growing."""
    if facts.prior is None:
        return facts.is_new
    return facts.prior.facts.solid_mm == 0 or any(
        _is_growth(facts.solid_mm - then.solid_mm, months) for then, months in _earlier(facts)
    )


def _is_slow(steps: Sequence[tuple[float, float]]) -> bool:
    """More than 1.5 mm in all, but not within 12 months, and not clearly smaller than last time (notes 7 and 8)."""
    if not steps or any(_is_growth(*step) for step in steps):
        return False
    increases = [increase for increase, _ in steps]
    return max(increases) > GROWTH_MM + _ROUNDING and increases[0] >= -GROWTH_MM - _ROUNDING


def _is_growth(increase_mm: float, months: float) -> bool:
    """More than 1.5 mm within 12 months (note 6)."""
    return increase_mm * min(1.0, GROWTH_MONTHS / months) > GROWTH_MM + _ROUNDING


def _earlier(facts: NoduleFacts) -> Iterator[tuple[NoduleFacts, float]]:
    """The nodule at every earlier examination that is known, with the months since."""
    months, prior = 0.0, facts.prior
    while prior is not None:
        months += prior.months
        yield prior.facts, months
        prior = prior.facts.prior
