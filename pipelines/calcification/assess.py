"""Which BI-RADS assessment the description of a group suggests: one table of rules, the first that applies counts.

Sources: D'Orsi CJ, Sickles EA, Mendelson EB, Morris EA et al., ACR BI-RADS Atlas, 5th edition, American College of
Radiology 2013, mammography: the categories (2 benign; 3 at most 2 % likely to be malignant; 4A above 2 to 10 %; 4B
above 10 to 50 %; 4C above 50 to below 95 %; 5 from 95 %), and how often what was biopsied was malignant, by type
(amorphous about 20 %, coarse heterogeneous 13 %, fine pleomorphic 29 %, fine linear 70 %) and by distribution (diffuse
0, regional 26 %, grouped 31 %, linear 60 %, segmental 62 %). By themselves amorphous, coarse heterogeneous and fine
pleomorphic calcifications are 4B there, and fine linear ones 4C. Liberman L et al., AJR 1998, 171:35-40, found linear
form and linear or segmental distribution to warrant category 5.

How type and distribution go together the atlas does not say. Here the odds of the type are taken times the odds of the
distribution over those of all that was biopsied (about 30 %): `likelihood`. Rules of category 4 stand where that falls;
fine linear ones in a line or a segment are 5, and what is diffuse in one breast alone and neither round nor punctate is
4A at least, although hardly any such was malignant.

A screening examination with a finding that is not benign is category 0 until it is worked up with magnification views;
what is suggested here is what the finding would then be, if they show no more. Category 3 is not to be given on a
screening examination. The radiologist's assessment decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pipelines import codes
from pipelines.codes import Code

EDITION = "5th edition"
TYPICALLY_BENIGN = frozenset({codes.SKIN_CALCIFICATION, codes.VASCULAR, codes.RIM, codes.POPCORN})
EVEN = frozenset({codes.ROUND, codes.PUNCTATE})
IN_A_DUCT = frozenset({codes.LINEAR, codes.SEGMENTAL})
MALIGNANT_BY_TYPE: Mapping[Code, float] = {
    codes.AMORPHOUS: 0.20,
    codes.COARSE_HETEROGENEOUS: 0.13,
    codes.FINE_PLEOMORPHIC: 0.29,
    codes.FINE_LINEAR: 0.70,
}
MALIGNANT_BY_DISTRIBUTION: Mapping[Code, float] = {
    codes.DIFFUSE: 0.0,
    codes.REGIONAL: 0.26,
    codes.GROUPED: 0.31,
    codes.LINEAR: 0.60,
    codes.SEGMENTAL: 0.62,
}
MALIGNANT_OF_ALL = 0.30


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules go by; `bilateral` says that the other breast has the like, as widely spread."""

    type: Code
    distribution: Code
    bilateral: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table."""

    id: str
    category: Code
    finding: str
    applies: Callable[[Facts], bool]


RULES: tuple[Rule, ...] = (
    Rule("2.typical", codes.BI_RADS_2, "Typically benign: skin, vascular, rim or popcorn",
         lambda f: f.type in TYPICALLY_BENIGN),
    Rule("2.bilateral", codes.BI_RADS_2, "Amorphous, regional or diffuse, and the like in both breasts",
         lambda f: f.bilateral and f.type == codes.AMORPHOUS),
    Rule("2.even_wide", codes.BI_RADS_2, "Round or punctate, regional or diffuse",
         lambda f: f.type in EVEN and f.distribution in {codes.REGIONAL, codes.DIFFUSE}),
    Rule("4B.even_in_a_duct", codes.BI_RADS_4B, "Round or punctate, in a line or a segment",
         lambda f: f.type in EVEN and f.distribution in IN_A_DUCT),
    Rule("2.round", codes.BI_RADS_2, "Round, 0.5 mm and more, grouped", lambda f: f.type == codes.ROUND),
    Rule("3.punctate", codes.BI_RADS_3, "Punctate, grouped", lambda f: f.type == codes.PUNCTATE),
    Rule("5.linear_in_a_duct", codes.BI_RADS_5, "Fine linear, in a line or a segment",
         lambda f: f.type == codes.FINE_LINEAR and f.distribution in IN_A_DUCT),
    Rule("4C.linear", codes.BI_RADS_4C, "Fine linear", lambda f: f.type == codes.FINE_LINEAR),
    Rule("4C.pleomorphic_in_a_duct", codes.BI_RADS_4C, "Fine pleomorphic, in a line or a segment",
         lambda f: f.type == codes.FINE_PLEOMORPHIC and f.distribution in IN_A_DUCT),
    Rule("4B.pleomorphic", codes.BI_RADS_4B, "Fine pleomorphic", lambda f: f.type == codes.FINE_PLEOMORPHIC),
    Rule("4A.diffuse", codes.BI_RADS_4A, "Amorphous or coarse heterogeneous, diffuse, in one breast",
         lambda f: f.distribution == codes.DIFFUSE),
    Rule("4B.amorphous", codes.BI_RADS_4B, "Amorphous", lambda f: f.type == codes.AMORPHOUS),
    Rule("4B.coarse", codes.BI_RADS_4B, "Coarse heterogeneous", lambda _: True),
)  # fmt: skip
"""Types that are not named above are those of `describe`: every one has a rule."""


def assess(facts: Facts) -> Rule:
    """The rule that counts for one group."""
    return next(rule for rule in RULES if rule.applies(facts))


def study_category(categories: Iterable[Code]) -> Code:
    """The most suspicious of the findings' categories; category 1 without a finding."""
    return max((codes.BI_RADS_1, *categories), key=codes.BI_RADS_ORDER.index)


def priority_of(category: Code) -> Code | None:
    """How soon somebody is to hear of it: within days from 4A on (ACR actionable findings, category 3), else None."""
    suspicious = codes.BI_RADS_ORDER.index(category) >= codes.BI_RADS_ORDER.index(codes.BI_RADS_4A)
    return codes.ACTIONABLE_DAYS if suspicious else None


def likelihood(type_: Code, distribution: Code) -> float | None:
    """How likely a group is malignant by the odds of its type and distribution; None for types that nobody biopsies."""
    if type_ not in MALIGNANT_BY_TYPE:
        return None
    odds = _odds(MALIGNANT_BY_TYPE[type_]) * _odds(MALIGNANT_BY_DISTRIBUTION[distribution]) / _odds(MALIGNANT_OF_ALL)
    return odds / (1 + odds)


def _odds(chance: float) -> float:
    return chance / (1 - chance)
