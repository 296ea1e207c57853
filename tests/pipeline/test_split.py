"""Drawing: laws under Hypothesis, optimality against exhaustive search, the same draw on every Python."""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.split import assign, equal_folds

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
HALF_HALF = {"train": 0.5, "val": 0.5}
USUAL = {"train": 0.8, "val": 0.2}
THREE = {"train": 0.7, "val": 0.15, "test": 0.15}
CT_CLASSES = [419, 226, 101, 100, 70]

Table = tuple[list[str], list[str], list[str]]  # ids, labels, groups


def ct_table() -> tuple[list[str], list[int]]:
    labels = [index for index, count in enumerate(CT_CLASSES) for _ in range(count)]
    return [f"TRN_{number:04d}" for number in range(len(labels))], labels


def ucf_table(classes: int = 50, groups: int = 25) -> Table:
    """4 to 7 clips a group, as in UCF50."""
    rows = [
        (f"v_C{c:02d}_g{g:02d}_c{k:02d}", f"C{c:02d}", f"C{c:02d}_g{g:02d}")
        for c in range(classes)
        for g in range(groups)
        for k in range(4 + (7 * c + 3 * g) % 4)
    ]
    ids, labels, named = zip(*rows, strict=True)
    return list(ids), list(labels), list(named)


def class_counts(ids, labels, drawn) -> dict[str, Counter]:
    label_of = dict(zip(ids, labels, strict=True))
    return {part: Counter(label_of[sample] for sample in members) for part, members in drawn.items()}


def home_of(drawn) -> dict[str, str]:
    return {sample: part for part, members in drawn.items() for sample in members}


# --- laws ---------------------------------------------------------------------------------------


@st.composite
def tables(draw) -> Table:
    """Up to 40 samples in a few classes; groups of one class or of several, or none."""
    classes = draw(st.integers(1, 4))
    mixed = draw(st.booleans())
    members = st.tuples(st.integers(0, classes - 1), st.integers(-3, 9))
    pairs = draw(st.lists(members, min_size=1, max_size=40))
    ids = [f"s{number}" for number in range(len(pairs))]
    groups = ["" if group < 0 else f"p{group}" for _, group in pairs]
    labels = [str(group % classes if group >= 0 and not mixed else label) for label, group in pairs]
    return ids, labels, groups


part_fractions = st.sampled_from([HALF_HALF, USUAL, {"train": 0.9, "val": 0.1}, THREE, equal_folds(4)])


def check_laws(table: Table, fractions: dict[str, float], seed: int) -> None:
    ids, labels, groups = table
    drawn = assign(ids, labels, groups, fractions=fractions, seed=seed)
    homes = home_of(drawn)
    assert list(drawn) == list(fractions)
    assert sorted(sample for members in drawn.values() for sample in members) == sorted(ids)
    assert all(members == sorted(members) for members in drawn.values())
    for group in set(groups) - {""}:
        assert len({homes[sample] for sample, other in zip(ids, groups, strict=True) if other == group}) == 1
    order = random.Random(seed).sample(range(len(ids)), len(ids))
    shuffled = [[column[index] for index in order] for column in table]
    assert assign(*shuffled, fractions=fractions, seed=seed) == drawn
    check_deviations(table, drawn, fractions)


def check_deviations(table: Table, drawn: dict[str, list[str]], fractions: dict[str, float]) -> None:
    ids, labels, groups = table
    units = [group or sample for sample, group in zip(ids, groups, strict=True)]
    counts = class_counts(ids, labels, drawn)
    if any(len(held) > 1 for held in labels_of_units(units, labels).values()):
        return  # groups of several classes cannot always be balanced
    for label, total in Counter(labels).items():
        held = Counter(unit for unit, other in zip(units, labels, strict=True) if other == label)
        for part, share in fractions.items():
            assert (
                abs(counts[part][label] - total * Fraction(str(share))) <= max(held.values())
                or len(held) == 1
            )
        if len(held) == 1:
            largest = max(fractions, key=lambda part: (fractions[part], [-ord(letter) for letter in part]))
            assert counts[largest][label] == total
        elif len(fractions) == 2:
            assert all(drawn.values())


def labels_of_units(units: list[str], labels: list[str]) -> dict[str, set[str]]:
    held = defaultdict(set)
    for unit, label in zip(units, labels, strict=True):
        held[unit].add(label)
    return held


laws = given(tables(), part_fractions, st.integers(-5, 2**40))


@settings(max_examples=300, deadline=None)
@laws
def test_a_draw_keeps_the_laws(table, fractions, seed):
    check_laws(table, fractions, seed)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@laws
def test_ten_thousand_draws_keep_the_laws(table, fractions, seed):
    check_laws(table, fractions, seed)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), part_fractions, st.integers(0, 99))
def test_without_groups_classes_are_within_one_and_totals_near(sizes, fractions, seed):
    labels = [index for index, size in enumerate(sizes) for _ in range(size)]
    ids = [f"s{number}" for number in range(len(labels))]
    drawn = assign(ids, labels, fractions=fractions, seed=seed)
    counts = class_counts(ids, labels, drawn)
    for part, share in fractions.items():
        for label, size in enumerate(sizes):
            assert abs(counts[part][label] - size * Fraction(str(share))) < 1
        tiny = sum(size * min(fractions.values()) < 1 for size in sizes)  # must be in every part, or in one
        assert abs(len(drawn[part]) - len(ids) * share) <= 1 + tiny


def test_totals_follow_the_fractions_where_every_class_rounds_the_same_way():
    ids = [f"s{number}" for number in range(700)]
    drawn = assign(ids, [number % 100 for number in range(700)], fractions=USUAL)
    assert len(drawn["val"]) == 140  # 100 classes of 7: rounding each would give 100


def test_a_mixture_of_groups_and_lone_samples_keeps_the_totals():
    ids = [f"s{number}" for number in range(700)]
    groups = ["pair" if number in (0, 100) else "" for number in range(700)]
    drawn = assign(ids, [number % 100 for number in range(700)], groups, fractions=USUAL)
    assert abs(len(drawn["val"]) - 140) <= 2


# --- hand-computed ------------------------------------------------------------------------------


def test_the_classes_of_the_paper():
    ids, labels = ct_table()
    drawn = assign(ids, labels, fractions=USUAL)
    counts = class_counts(ids, labels, drawn)
    assert [counts["train"][index] for index in range(5)] == [335, 181, 81, 80, 56]
    assert [counts["val"][index] for index in range(5)] == [84, 45, 20, 20, 14]


def test_a_draw_without_groups_is_the_ranking_by_sha256():
    ids, labels = ct_table()
    drawn = assign(ids, labels, fractions=USUAL, seed=7)
    label_of = dict(zip(ids, labels, strict=True))
    ranked = sorted(ids, key=lambda name: hashlib.sha256(f"7 sample {name}".encode()).hexdigest())
    for label, count in enumerate([335, 181, 81, 80, 56]):
        of_class = [name for name in ranked if label_of[name] == label]
        assert set(of_class[:count]) <= set(drawn["train"])
        assert set(of_class[count:]) <= set(drawn["val"])


@pytest.mark.parametrize(
    ("sizes", "in_val"),
    [
        ([1], 0),  # the only group of a class goes to the largest part
        ([5, 5], 5),  # 2 wanted; 0 would be nearer, but then val is empty
        ([10, 1], 1),  # 2.2 wanted
        ([20, 2, 2, 2, 2, 2], 6),  # exactly 6
        ([9, 8, 7, 6, 5, 4, 3], 8),  # 8.4 wanted; 8, or 5 + 3
        ([4] * 12, 8),  # 9.6 wanted
    ],
)
def test_groups_of_one_class_hit_the_nearest_count(sizes, in_val):
    groups = [f"p{index}" for index, size in enumerate(sizes) for _ in range(size)]
    ids = [f"s{number}" for number in range(len(groups))]
    for seed in range(20):
        drawn = assign(ids, ["a"] * len(ids), groups, fractions=USUAL, seed=seed)
        assert len(drawn["val"]) == in_val


def test_a_giant_group_is_made_up_for_by_others():
    sizes = [60, *[2] * 20]  # 20 of 100 wanted in val; wherever the giant ranks, ten pairs are exact
    groups = [f"p{index}" for index, size in enumerate(sizes) for _ in range(size)]
    ids = [f"s{number}" for number in range(100)]
    for seed in range(30):
        drawn = assign(ids, ["a"] * 100, groups, fractions=USUAL, seed=seed)
        assert abs(len(drawn["val"]) - 20) <= 1


def test_groups_of_several_classes_are_balanced():
    rng = random.Random(0)
    groups = [f"p{rng.randrange(300)}" for _ in range(3000)]
    labels = [rng.randrange(5) for _ in groups]
    ids = [f"s{number}" for number in range(3000)]
    largest = Counter()
    for (_, label), count in Counter(zip(groups, labels, strict=True)).items():
        largest[label] = max(largest[label], count)
    for seed in range(10):
        counts = class_counts(ids, labels, assign(ids, labels, groups, fractions=THREE, seed=seed))
        for part, share in THREE.items():
            assert all(abs(counts[part][c] - share * n) <= largest[c] for c, n in Counter(labels).items())


def test_none_and_empty_groups_are_no_groups():
    ids, labels = ct_table()
    plain = assign(ids, labels, fractions=THREE)
    assert assign(ids, labels, [None] * 916, fractions=THREE) == plain
    assert assign(ids, labels, [""] * 916, fractions=THREE) == plain


def test_order_of_fractions_and_type_of_labels_do_not_matter():
    ids, labels = ct_table()
    drawn = assign(ids, labels, fractions=USUAL)
    assert assign(ids, [str(label) for label in labels], fractions={"val": 0.2, "train": 0.8}) == drawn
    assert assign(ids, labels, fractions=USUAL, seed=1) != drawn


def test_ucf50_groups_stay_whole_and_every_class_is_near():
    ids, labels, groups = ucf_table()
    drawn = assign(ids, labels, groups, fractions=USUAL)
    homes = home_of(drawn)
    assert all(len({homes[sample] for sample in members}) == 1 for members in grouped(ids, groups).values())
    counts = class_counts(ids, labels, drawn)
    assert all(abs(counts["val"][label] - total / 5) <= 3.5 for label, total in Counter(labels).items())
    assert abs(len(drawn["val"]) / len(ids) - 0.2) < 0.005


def grouped(ids: list[str], groups: list[str]) -> dict[str, list[str]]:
    members = defaultdict(list)
    for sample, group in zip(ids, groups, strict=True):
        members[group].append(sample)
    return members


# --- optimality ---------------------------------------------------------------------------------


def small_instance(rng: random.Random, *, mixed: bool, most: int) -> Table:
    classes = rng.randint(1, 4)
    rows = []
    for group in range(rng.randint(1, most)):
        lead = rng.randrange(classes)
        rows += [
            (f"{group}_{member}", str(rng.randrange(classes) if mixed else lead), f"p{group}")
            for member in range(rng.randint(1, 8))
        ]
    ids, labels, groups = zip(*rows, strict=True)
    return list(ids), list(labels), list(groups)


Score = tuple[Fraction, int, Fraction, int]


def score(table: Table, parts_of: dict[str, int], shares: list[Fraction]) -> Score:
    """(beyond the bound, empty parts, summed deviation, class missing where it could be)."""
    _, labels, groups = table
    count = Counter((label, parts_of[group]) for label, group in zip(labels, groups, strict=True))
    in_group = Counter(zip(labels, groups, strict=True))
    beyond, gaps, total = Fraction(0), 0, Fraction(0)
    for label, size in Counter(labels).items():
        held = [number for (other, _), number in in_group.items() if other == label]
        off = [abs(count[label, part] - share * size) for part, share in enumerate(shares)]
        present = sum(count[label, part] > 0 for part in range(len(shares)))
        beyond += sum(max(Fraction(0), distance - max(held)) for distance in off)
        gaps += max(0, min(len(shares), len(held)) - present)
        total += sum(off)
    return beyond, len(shares) - len(set(parts_of.values())), total, gaps


def exhaustive(table: Table, shares: list[Fraction]) -> Score:
    """The best score of all placings, the only group of a class in part 0, which is the largest."""
    _, labels, groups = table
    pairs = set(zip(labels, groups, strict=True))
    lone = {label for label, number in Counter(label for label, _ in pairs).items() if number == 1}
    pinned = {group for label, group in pairs if label in lone}
    return min(score(table, placing, shares) for placing in placings(table, shares, pinned))


def placings(table: Table, shares: list[Fraction], pinned: Collection[str]) -> Iterator[dict[str, int]]:
    names = sorted(set(table[2]))
    choices = [[0] if name in pinned else range(len(shares)) for name in names]
    return (dict(zip(names, placing, strict=True)) for placing in product(*choices))


def drawn_parts(table: Table, fractions: dict[str, float], seed: int) -> dict[str, int]:
    homes = home_of(assign(*table, fractions=fractions, seed=seed))
    names = list(fractions)
    return {group: names.index(homes[sample]) for sample, group in zip(table[0], table[2], strict=True)}


def share_of_optima(fractions: dict[str, float], cases: int, *, mixed: bool, most: int) -> float:
    shares = [Fraction(str(share)) for share in fractions.values()]
    optimal = 0
    for seed in range(cases):
        table = small_instance(random.Random(seed), mixed=mixed, most=most)
        optimal += score(table, drawn_parts(table, fractions, seed), shares) == exhaustive(table, shares)
    return optimal / cases


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(
    ("fractions", "most", "cases"),
    [(USUAL, 8, 60), (HALF_HALF, 8, 60), (THREE, 5, 40)],
    ids=["80", "50", "70"],
)
def test_small_instances_equal_the_exhaustive_optimum(fractions, most, cases, mixed):
    assert share_of_optima(fractions, cases, mixed=mixed, most=most) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("fractions", "most", "cases"), [(USUAL, 12, 150), (THREE, 8, 50)], ids=["80", "70"])
def test_instances_of_twelve_groups_equal_the_exhaustive_optimum(fractions, most, cases, mixed):
    assert share_of_optima(fractions, cases, mixed=mixed, most=most) >= 0.95


@pytest.mark.parametrize("mixed", [False, True])
def test_no_placing_at_all_deviates_less(mixed):
    """Not even one that leaves a part empty, or puts the only group of a class into val."""
    shares, least = [Fraction("0.8"), Fraction("0.2")], 0
    tables = [small_instance(random.Random(seed), mixed=mixed, most=9) for seed in range(80)]
    for seed, table in enumerate(tables):
        free = min(score(table, placing, shares)[2] for placing in placings(table, shares, ()))
        least += score(table, drawn_parts(table, USUAL, seed), shares)[2] == free
    assert least >= 0.9 * len(tables)  # the rest have too few groups to fill both parts


# --- growth -------------------------------------------------------------------------------------


def moved(table: Table, new: Table, fractions: dict[str, float], *, groups: bool) -> float:
    columns = 3 if groups else 2
    old = home_of(assign(*table[:columns], fractions=fractions))
    joined = [[*one, *other] for one, other in zip(table, new, strict=True)]
    now = home_of(assign(*joined[:columns], fractions=fractions))
    return sum(now[sample] != part for sample, part in old.items()) / len(old)


def growth(rng: random.Random, classes: int, per_class: int, size: int) -> tuple[Table, Table]:
    """10,000 samples in groups of about `size`, and 1 % more: half in new groups, half in old ones."""
    rows = [
        (f"{c}_{n}", f"C{c}", f"C{c}_{rng.randrange(per_class // size)}")
        for c in range(classes)
        for n in range(per_class)
    ]
    new = []
    for n in range(classes * per_class // 100):
        c = rng.randrange(classes)
        old = rng.random() < 0.5
        new.append(
            (f"new{n}", f"C{c}", f"C{c}_{rng.randrange(per_class // size)}" if old else f"new{n // 4}_{c}")
        )
    one, other = (tuple(map(list, zip(*part, strict=True))) for part in (rows, new))
    return one, other


@pytest.mark.parametrize("fractions", [USUAL, THREE], ids=["two parts", "three parts"])
@pytest.mark.parametrize(
    ("classes", "size", "groups"),
    [(5, 1, False), (50, 1, False), (5, 10, True), (10, 4, True), (50, 6, True)],
)
def test_one_percent_more_samples_move_at_most_one_percent(classes, size, groups, fractions):
    for seed in range(2):
        table, new = growth(random.Random(seed), classes, 10_000 // classes, size)
        assert moved(table, new, fractions, groups=groups) <= 0.01


@pytest.mark.parametrize("fractions", [USUAL, THREE], ids=["two parts", "three parts"])
def test_groups_of_one_percent_move_one_at_each_cut(fractions):
    for seed in range(2):
        table, new = growth(random.Random(seed), 2, 5_000, 100)
        assert moved(table, new, fractions, groups=True) <= 0.012 * (len(fractions) - 1)


def test_each_new_sample_of_a_class_moves_at_most_one_old_one():
    ids = [f"s{number}" for number in range(500)]
    for new in range(40):
        grown = [*ids, f"new{new}"]
        before, after = (
            home_of(assign(names, ["a"] * len(names), fractions=USUAL)) for names in (ids, grown)
        )
        assert sum(after[name] != part for name, part in before.items()) <= 1


# --- arguments that make no sense ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"ids": ["a", "a"]}, "duplicate-ids"),
        ({"labels": [0]}, "lengths-differ"),
        ({"groups": ["p"]}, "lengths-differ"),
        ({"ids": [], "labels": []}, "no-samples"),
        ({"ids": ["", "b"]}, "types"),
        ({"ids": [1, 2]}, "types"),
        ({"labels": [0.5, 1]}, "types"),
        ({"labels": [None, 1]}, "types"),
        ({"groups": [float("nan"), "p"]}, "types"),
        ({"seed": "0"}, "types"),
        ({"fractions": {}}, "fractions"),
        ({"fractions": {"train": 1.0}}, "fractions"),
        ({"fractions": {"train": 0.8, "val": 0.3}}, "fractions"),
        ({"fractions": {"train": 1.2, "val": -0.2}}, "fractions"),
        ({"fractions": {"train": 1.0, "val": 0.0}}, "fractions"),
        ({"fractions": {"train": float("nan"), "val": 0.2}}, "fractions"),
        ({"fractions": {"train": "0.8", "val": 0.2}}, "fractions"),
        ({"fractions": {"": 0.8, "val": 0.2}}, "fractions"),
    ],
)
def test_senseless_arguments_are_refused_in_one_line(arguments, code):
    with pytest.raises(ConfigError) as caught:
        assign(**{"ids": ["a", "b"], "labels": [0, 1], "fractions": USUAL} | arguments)
    assert f": {code}: " in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_fractions_may_be_off_by_rounding():
    thirds = {"a": 0.3333333333, "b": 0.3333333333, "c": 0.3333333334}
    assert len(assign(["a", "b", "c"], [0, 0, 0], fractions=thirds)) == 3


def test_folds_need_two():
    with pytest.raises(ConfigError, match="folds"):
        equal_folds(1)
