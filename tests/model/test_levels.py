"""Decisions for groups, beside tables worked out by hand."""

import numpy as np
import pytest

from model.levels import background_of, consistent, levels

CLASSES = ("Normal", "Pneumonia", "COVID-19")
# Two normal patients of three slices, one with pneumonia; b has a false alarm, d belongs to nobody.
NAMES = ["a", "a", "a", "b", "b", "b", "c", "c", "c", ""]
TRUTH = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2]
SLICES = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.7, 0.2, 0.1],
        [0.6, 0.2, 0.2],
        [0.8, 0.1, 0.1],
        [0.7, 0.2, 0.1],
        [0.2, 0.1, 0.7],  # alone it makes b a patient with COVID-19
        [0.6, 0.3, 0.1],
        [0.5, 0.4, 0.1],
        [0.1, 0.9, 0.0],
        [0.1, 0.2, 0.7],
    ]
)


def test_both_rules_beside_each_other() -> None:
    found = levels(TRUTH, SLICES, CLASSES, {"group": NAMES}, background=0)
    assert [(level.unit, level.rule) for level in found] == [("group", "mean"), ("group", "any")]
    # By hand: means of c are 0.4, 0.53, 0.07; b's alarm outweighs nothing, but decides by "any".
    np.testing.assert_array_equal(found[0].scores.confusion, [[2, 0, 0], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(found[1].scores.confusion, [[1, 0, 1], [0, 1, 0], [0, 0, 1]])
    assert found[1].scores.accuracy.value == 3 / 4


def test_without_a_background_there_is_one_rule() -> None:
    (only,) = levels(TRUTH, SLICES, CLASSES, {"group": NAMES}, background=None)
    assert only.rule == "mean"


@pytest.mark.parametrize("names", [[""] * 10, [f"P{n}" for n in range(10)]])
def test_where_nothing_belongs_together_there_is_no_level(names: list[str]) -> None:
    assert levels(TRUTH, SLICES, CLASSES, {"group": names}, background=0) == ()


def test_a_unit_of_two_classes_cannot_be_decided_for() -> None:
    units = {"stack": [str(index) for index in range(10)], "group": NAMES}
    assert consistent(TRUTH, units) == (units, [])
    usable, (refused,) = consistent([1, *TRUTH[1:]], units)
    assert list(usable) == ["stack"]
    assert refused == "no decisions for a group: their samples have different classes: 1 name: group a"


def test_each_stack_of_a_group_counts_once() -> None:
    """A long scan of nine slices is read as pneumonia, two short ones of the same patient as normal."""
    stacks, groups = ["long"] * 9 + ["one", "one", "two", "two"], ["P1"] * 13
    slices = np.array([[0.2, 0.8, 0.0]] * 9 + [[0.9, 0.1, 0.0]] * 4)
    truth, units = [0] * 13, {"stack": stacks, "group": groups}
    found = levels(truth, slices, CLASSES, units, background=None)
    assert [(level.unit, level.scores.samples, level.scores.groups) for level in found] == [
        ("stack", 3, 1),
        ("group", 1, 1),
    ]
    # By hand: (0.2 + 0.9 + 0.9) / 3 = 0.67 is normal; over single slices it would be 5.4 / 13 = 0.42.
    np.testing.assert_array_equal(found[0].scores.confusion, [[2, 1, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(found[1].scores.confusion, [[1, 0, 0], [0, 0, 0], [0, 0, 0]])
    (slices_of_patient,) = levels(truth, slices, CLASSES, {"group": groups}, background=None)
    assert slices_of_patient.scores.accuracy.value == 0


@pytest.mark.parametrize(
    ("classes", "given", "expected"),
    [
        (CLASSES, None, 0),
        (("cancer", "HEALTHY"), None, 1),
        (("Focal", "Miliary"), None, None),
        (("Focal", "Miliary"), "Miliary", 1),
        (CLASSES, "COVID-19", 2),
    ],
)
def test_the_background_is_found_by_its_name(
    classes: tuple[str, ...], given: str | None, expected: int | None
) -> None:
    assert background_of(classes, given) == expected
