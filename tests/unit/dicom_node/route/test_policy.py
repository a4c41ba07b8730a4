from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.route.policy import Failure, evaluate, fired, keywords, matches, priority_number
from dicom_node.settings import Matcher, Route

TEXT = st.text(st.characters(exclude_characters="*?[]", exclude_categories=["Cs"]), min_size=1, max_size=20)
LETTERS = st.text("abcxyzABCXYZ 5", min_size=1)
VALUES = st.lists(st.one_of(TEXT, st.floats(-1e6, 1e6)), max_size=4).map(tuple)


def matcher(**keys: object) -> Matcher:
    return Matcher.model_validate(keys)


def route(pipeline: str = "hemorrhage", priority: str = "stat", **when: object) -> Route:
    return Route.model_validate({"pipeline": pipeline, "priority": priority, "when": when})


@pytest.mark.parametrize(
    ("keys", "values", "expected"),
    [
        ({"equal": "CT"}, ("CT",), True),
        ({"equal": "CT"}, ("ct",), False),
        ({"equal": "CT"}, (), False),
        ({"equal": 5}, (5.0,), True),
        ({"equal": 5}, ("5.0",), True),
        ({"equal": "5"}, (5.0,), True),
        ({"equal": "5 mm"}, (5.0,), False),
        ({"equal": "AXIAL"}, ("ORIGINAL", "PRIMARY", "AXIAL"), True),
        ({"one_of": ["HEAD", "BRAIN"]}, ("BRAIN",), True),
        ({"one_of": ["HEAD", "BRAIN"]}, ("NECK",), False),
        ({"one_of": [1, 2]}, (2.0,), True),
        ({"glob": "*head*"}, ("CT Head plain",), True),
        ({"glob": "*schadel*"}, ("CT Schädel nativ",), True),
        ({"glob": "TÊTE*"}, ("tete",), True),
        ({"glob": "HEAD"}, ("HEAD AND NECK",), False),
        ({"glob": ["*HEAD*", "*BRAIN*"]}, ("Brain 5mm",), True),
        ({"glob": "*"}, (), False),
        ({"not_glob": "*NECK*"}, ("HEAD",), True),
        ({"not_glob": "*NECK*"}, ("head", "neck"), False),
        ({"not_glob": "*NECK*"}, (), True),
        ({"glob": "*HEAD*", "not_glob": "*NECK*"}, ("HEAD AND NECK",), False),
        ({"range": [0.5, 5]}, (5.0,), True),
        ({"range": [0.5, 5]}, (5.1,), False),
        ({"range": [0.5, 5]}, ("2.5",), True),
        ({"range": [0.5, 5]}, ("thin",), False),
        ({"range": [0.5, 5]}, (), False),
        ({"present": True}, ("x",), True),
        ({"present": True}, (), False),
        ({"absent": True}, (), True),
        ({"absent": True}, ("x",), False),
    ],
)
def test_matchers(keys: dict[str, object], values: tuple[str | float, ...], expected: bool) -> None:
    assert matches(matcher(**keys), values) is expected


@given(values=VALUES)
def test_an_attribute_is_present_or_absent(values: tuple[str | float, ...]) -> None:
    assert matches(matcher(present=True), values) != matches(matcher(absent=True), values)


@given(values=VALUES, patterns=st.lists(TEXT.map(lambda text: f"*{text}*"), min_size=1, max_size=3))
def test_not_glob_is_the_opposite_of_glob(values: tuple[str | float, ...], patterns: list[str]) -> None:
    assert matches(matcher(glob=patterns), values) != matches(matcher(not_glob=patterns), values)


@given(values=VALUES, wanted=st.lists(TEXT, min_size=1, max_size=3))
def test_one_of_is_any_equal(values: tuple[str | float, ...], wanted: list[str]) -> None:
    single = any(matches(matcher(equal=word), values) for word in wanted)
    assert matches(matcher(one_of=wanted), values) == single


@given(before=LETTERS, word=LETTERS, after=LETTERS)
def test_a_glob_finds_its_word_in_any_case(before: str, word: str, after: str) -> None:
    assert matches(matcher(glob=f"*{word.lower()}*"), ((before + word + after).swapcase(),))


def test_first_rule_in_order_fires_and_the_ones_before_say_why_not() -> None:
    routes = {
        "thin": route(Modality="CT", SliceThickness={"range": [0, 2]}),
        "any": route("other", "urgent", Modality="CT"),
        "never asked": route(Modality="CT"),
    }
    asked = evaluate(routes, {"Modality": ("CT",), "SliceThickness": (5.0,)})
    assert [evaluation.rule for evaluation in asked] == ["thin", "any"]
    assert asked[0].failures == (Failure("SliceThickness", "range 0, 2", "5"),)
    found = fired(asked)
    assert found is not None
    assert (found.rule, found.pipeline, found.priority) == ("any", "other", "urgent")
    assert keywords(routes) == {"Modality", "SliceThickness"}


def test_no_rule_fires() -> None:
    asked = evaluate({"head": route(BodyPartExamined="HEAD")}, {})
    assert fired(asked) is None
    assert asked[0].failures == (Failure("BodyPartExamined", "equal HEAD", "nothing"),)
    assert fired(()) is None


@pytest.mark.parametrize("keyword", ["PatientName", "PatientID", "PatientBirthDate", "ReferringPhysicianName"])
def test_values_of_persons_are_not_told(keyword: str) -> None:
    (asked,) = evaluate({"one": route(**{keyword: "X"})}, {keyword: ("Doe^Jane",)})
    assert asked.failures[0].found == "a value that is not shown"


def test_urgent_words_come_first_in_the_queue() -> None:
    assert [priority_number(word) for word in ("stat", "urgent", "routine")] == [0, 1, 2]
