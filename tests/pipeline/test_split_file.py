"""Splits of a store: drawing, the file and its refusals, leaks, what changed."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError, IntegrityError
from pipeline.split import (
    assign,
    check_split,
    choose_fold,
    equal_folds,
    given_split,
    import_split,
    make_split,
    read_split,
    require_store,
    split_table,
    write_split,
)
from pipeline.store import Header, Row, Store, digest_of

pytestmark = pytest.mark.unit

USUAL = {"train": 0.8, "val": 0.2}
THREE = {"train": 0.6, "val": 0.2, "test": 0.2}
CT_CLASSES = ("Infiltrative", "Focal", "Tuberculoma", "Miliary", "Fibro-cavernous")
CT_COUNTS = (419, 226, 101, 100, 70)


def row_of(sample: str, label: int, group: str = "", content: str = "") -> Row:
    source, volume = (hashlib.sha256(f"{kind}{content or sample}".encode()).hexdigest() for kind in "sv")
    return Row(sample, label, group, f"scans/{sample}.nii.gz", source, volume, "{}")


def store_of(rows: list[Row], classes: tuple[str, ...] = ("a", "b", "c")) -> Store:
    header = Header("demo", {"shape": [2, 3, 4], "dtype": "float16"}, classes, {})
    rows = sorted(rows, key=lambda row: row.id)
    return Store(Path("demo.zarr"), header, tuple(rows), digest_of(header.recipe, classes, rows), ())


def grouped_store(samples: int = 90, groups: int = 30) -> Store:
    """Three classes; sample n is in group n % groups, which is of class n % groups % 3."""
    return store_of([row_of(f"s{n:03d}", n % groups % 3, f"p{n % groups:02d}") for n in range(samples)])


def ct_store() -> Store:
    labels = [label for label, count in enumerate(CT_COUNTS) for _ in range(count)]
    return store_of([row_of(f"TRN_{n:04d}", label) for n, label in enumerate(labels)], CT_CLASSES)


def ucf50_store() -> Store:
    rows = [
        row_of(f"v_C{c:02d}_g{g:02d}_c{k}", c, f"C{c:02d}_g{g:02d}")
        for c in range(50)
        for g in range(25)
        for k in range(4 + (7 * c + 3 * g) % 4)
    ]
    return store_of(rows, tuple(f"C{c:02d}" for c in range(50)))


# --- drawing from a store -----------------------------------------------------------------------


def test_the_usual_method_is_assign():
    store = grouped_store()
    split = make_split(store, fractions=USUAL, seed=3)
    columns = zip(*((row.id, row.label, row.group) for row in store.rows), strict=True)
    assert split.method == "stratified-grouped-hash-1"
    assert {name: list(ids) for name, ids in split.parts.items()} == assign(*columns, fractions=USUAL, seed=3)
    assert check_split(split, store) == []


def test_without_groups_the_method_says_so():
    assert make_split(ct_store(), fractions=USUAL).method == "stratified-hash-1"
    assert make_split(grouped_store(), fractions=USUAL, grouped=False).method == "stratified-hash-1"


def test_the_paper_s_split():
    split = make_split(ct_store(), fractions=USUAL, method="viptt-2021")
    assert list(split.counts["train"].values()) == [335, 180, 81, 80, 56]
    assert list(split.counts["val"].values()) == [84, 46, 20, 20, 14]
    weights = [0.43701493, 0.81333333, 1.80740741, 1.83, 2.61428571]  # of the released configuration
    np.testing.assert_allclose(list(split.class_weights.values()), weights, atol=1e-8)


def test_the_paper_s_split_is_scikit_learn_s():
    selection = pytest.importorskip("sklearn.model_selection")
    store = ct_store()
    ids, labels = [row.id for row in store.rows], [row.label for row in store.rows]
    train, val = selection.train_test_split(ids, test_size=0.2, random_state=0, stratify=labels)
    split = make_split(store, fractions=USUAL, method="viptt-2021")
    assert (set(split.parts["train"]), set(split.parts["val"])) == (set(train), set(val))


def test_class_weights_are_scikit_learn_s_of_train_alone():
    utils = pytest.importorskip("sklearn.utils")
    store = grouped_store()
    split = make_split(store, fractions=USUAL)
    train = [row.label for row in store.rows if row.id in split.parts["train"]]
    wanted = utils.compute_class_weight("balanced", classes=np.unique(train), y=train)
    np.testing.assert_allclose(list(split.class_weights.values()), wanted, rtol=1e-12)


@pytest.mark.slow
def test_ucf50_leaks_nothing_with_groups_and_nearly_all_without():
    store = ucf50_store()
    assert set(make_split(store, fractions=USUAL).leaked.values()) == {0}
    for options in ({"grouped": False}, {"method": "viptt-2021"}):
        split = make_split(store, fractions=USUAL, **options)
        train = {row.group for row in store.rows if row.id in set(split.parts["train"])}
        val = [row for row in store.rows if row.id in set(split.parts["val"])]
        leaked = sum(row.group in train for row in val)
        assert split.leaked == {"train": 0, "val": leaked}
        assert leaked / len(val) > 0.99
        assert f"group-leak: {leaked} of {len(val)} samples of val" in split.warnings[0]


@pytest.mark.parametrize("column", ["source_sha256", "sha256"])
@pytest.mark.parametrize("grouped", [False, True])
def test_same_content_stays_together_with_and_without_groups(column, grouped):
    rows = [row_of(f"s{n}", n % 2, f"p{n}" if n % 3 else "") for n in range(60)]
    twins = [replace(row, **{column: getattr(rows[n % 4], column)}) for n, row in enumerate(rows[:20])]
    store = store_of([*twins, *rows[20:]])
    for seed in range(10):
        split = make_split(store, fractions=USUAL, seed=seed, grouped=grouped)
        assert check_split(split, store) == []


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(-5, 8), st.integers(0, 25)), min_size=2, max_size=40),
    st.integers(0, 99),
)
def test_no_id_group_or_content_is_on_two_sides(samples, seed):
    check_no_leak(samples, seed)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(-5, 8), st.integers(0, 25)), min_size=2, max_size=40),
    st.integers(0, 99),
)
def test_in_ten_thousand_draws_nothing_is_on_two_sides(samples, seed):
    check_no_leak(samples, seed)


def check_no_leak(samples, seed) -> None:
    rows = [
        row_of(f"s{n}", label, f"p{group}" if group >= 0 else "", f"c{content}")
        for n, (label, group, content) in enumerate(samples)
    ]
    split = make_split(store_of(rows), fractions=THREE, seed=seed)
    homes = {sample: part for part, ids in split.parts.items() for sample in ids}
    assert sorted(homes) == sorted(row.id for row in rows)
    assert sum(map(len, split.parts.values())) == len(rows)
    for column in ("group", "source_sha256", "sha256"):
        sides = {(getattr(row, column), homes[row.id]) for row in rows if getattr(row, column)}
        assert max(Counter(key for key, _ in sides).values(), default=1) == 1


def test_a_class_with_one_group_goes_to_the_largest_part_and_is_told():
    rows = [*grouped_store().rows, *(row_of(f"rare{n}", 3, "only") for n in range(5))]
    store = store_of(rows, ("a", "b", "c", "rare"))
    split = make_split(store, fractions=USUAL)
    assert (split.counts["train"]["rare"], split.counts["val"]["rare"]) == (5, 0)
    assert "lone-class: one sample or group only, kept whole: rare" in split.warnings[0]
    assert check_split(split, store) == []


# --- frozen test, folds, given ------------------------------------------------------------------


def test_a_frozen_test_part_is_never_touched_and_its_siblings_stay_out():
    first = make_split(grouped_store(), fractions=THREE)
    old = grouped_store().rows
    new = [row for row in grouped_store(150, 45).rows if row.id not in {other.id for other in old}]
    grown = store_of([*old, *new])  # more members for old groups, and new groups
    for seed in range(10):
        again = make_split(grown, fractions=THREE, seed=seed, frozen=first)
        assert again.parts["test"] == first.parts["test"]
        assert not set(again.excluded) & {sample for ids in again.parts.values() for sample in ids}
        assert not [problem.code for problem in check_split(again, grown)]
    assert again.excluded
    assert "excluded: left out as siblings" in again.warnings[-1]


def test_fractions_beside_a_frozen_test_part_may_leave_it_out():
    store = grouped_store()
    first = make_split(store, fractions=THREE)
    share = len(first.parts["test"]) / 90
    again = make_split(store, fractions=USUAL, frozen=first)
    assert again.parts["test"] == first.parts["test"]
    assert again.fractions == pytest.approx(
        {"train": 0.8 * (1 - share), "val": 0.2 * (1 - share), "test": share}
    )


def test_a_frozen_test_part_must_still_be_there():
    first = make_split(grouped_store(), fractions=THREE)
    rest = store_of([row for row in grouped_store().rows if row.id != first.parts["test"][0]])
    with pytest.raises(IntegrityError, match=r"frozen-test-gone.*1 id"):
        make_split(rest, fractions=THREE, frozen=first)


def test_each_fold_validates_once():
    store = grouped_store()
    split = make_split(store, fractions=equal_folds(5))
    seen = []
    for index in range(5):
        fold = choose_fold(split, index)
        seen += fold.parts["val"]
        assert check_split(fold, store) == []
        bare = given_split(store, fold.parts)
        assert fold.counts == bare.counts
        assert fold.class_weights == pytest.approx(bare.class_weights)
        assert fold.groups == bare.groups
        assert fold.fractions == pytest.approx({"train": 0.8, "val": 0.2})
    assert sorted(seen) == [row.id for row in store.rows]
    with pytest.raises(ConfigError, match="no-such-fold"):
        choose_fold(split, 5)


def test_folds_keep_the_frozen_test_part(tmp_path):
    store = grouped_store()
    test = make_split(store, fractions=THREE)
    folds = make_split(store, fractions=equal_folds(3), frozen=test)
    fold = choose_fold(folds, 0)
    assert list(fold.parts) == ["train", "val", "test"]
    assert fold.parts["test"] == test.parts["test"]
    write_split(tmp_path / "fold.json", fold)
    assert read_split(tmp_path / "fold.json") == fold


def test_given_parts_keep_their_order_and_are_checked():
    store = store_of([row_of(name, 0) for name in "abcd"])
    split = given_split(store, {"train": ["c", "a"], "val": ["d"]})
    assert (split.method, split.parts["train"]) == ("given", ("c", "a"))
    with pytest.raises(IntegrityError, match="id-twice"):
        given_split(store, {"train": ["a", "b"], "val": ["b"]})
    with pytest.raises(IntegrityError, match="unknown-id"):
        given_split(store, {"train": ["a"], "val": ["z"]})
    with pytest.raises(IntegrityError, match="split-empty"):
        given_split(store, {"train": []})


def test_unknown_methods_are_refused():
    with pytest.raises(ConfigError, match=r"split-method.*use one of stratified-grouped-hash-1"):
        make_split(grouped_store(), fractions=USUAL, method="random")
    with pytest.raises(ConfigError, match="makes two splits"):
        make_split(grouped_store(), fractions=THREE, method="viptt-2021")


def test_scikit_learn_missing_is_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.model_selection", None)
    with pytest.raises(ConfigError, match=r"no-scikit-learn.*viptt\[train\]"):
        make_split(ct_store(), fractions=USUAL, method="viptt-2021")


# --- the file -----------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "splits" / "demo.json"
    write_split(path, make_split(grouped_store(), fractions=USUAL))
    return path


def test_the_file_is_the_contract(file):
    document = json.loads(file.read_text())
    keys = ["format", "dataset", "store_digest", "method", "seed", "fractions", "splits", "counts"]
    assert list(document)[:8] == keys
    assert (document["format"], document["dataset"], document["fractions"]) == (1, "demo", USUAL)
    assert document["store_digest"] == grouped_store().digest
    assert {part: sum(counts.values()) for part, counts in document["counts"].items()} == {
        part: len(ids) for part, ids in document["splits"].items()
    }


def test_writing_is_repeatable_and_reading_gives_the_same(file, tmp_path):
    split = read_split(file)
    assert split == make_split(grouped_store(), fractions=USUAL)
    write_split(tmp_path / "again.json", split)
    assert (tmp_path / "again.json").read_bytes() == file.read_bytes()


def test_ids_of_any_bytes_survive(tmp_path):
    names = ["Übung 1", "v_%02d", "caf\udce9", "病人"]
    rows = tuple(row_of(name, 0, content=ascii(name)) for name in names)
    store = replace(store_of([row_of("a", 0)]), rows=rows)  # a store's own digest takes UTF-8 only
    split = make_split(store, fractions=USUAL)
    write_split(tmp_path / "s.json", split)
    assert read_split(tmp_path / "s.json") == split


def test_a_file_with_the_keys_of_the_contract_alone_is_read(file):
    document = json.loads(file.read_text())
    bare = {key: document[key] for key in list(document)[:8]}
    file.write_text(json.dumps(bare))
    split = read_split(file)
    assert split.parts == make_split(grouped_store(), fractions=USUAL).parts
    assert split.class_weights == pytest.approx(document["class_weights"])


def edit(document, *keys, to):
    for key in keys[:-1]:
        document = document[key]
    document[keys[-1]] = to


def swap_two(document):
    """Two ids of one class change sides: every count still fits."""
    train, val = document["splits"]["train"], document["splits"]["val"]
    label = {row.id: row.label for row in grouped_store().rows}
    place = next(index for index, name in enumerate(train) if label[name] == label[val[0]])
    train[place], val[0] = val[0], train[place]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (swap_two, "split-edited"),
        (lambda d: d["splits"]["val"].append("extra"), "split-counts"),
        (lambda d: d["splits"]["val"].append(d["splits"]["train"][0]), "id-twice"),
        (lambda d: edit(d, "splits", "val", 0, to="../../etc/passwd"), "unsafe-id"),
        (lambda d: edit(d, "splits", "val", 0, to="/etc/passwd"), "unsafe-id"),
        (lambda d: edit(d, "splits", "val", 0, to="C:\\data"), "unsafe-id"),
        (lambda d: edit(d, "splits", "val", 0, to="a\0b"), "unsafe-id"),
        (lambda d: edit(d, "splits", "val", 0, to=7), "split-keys"),
        (lambda d: edit(d, "splits", "val", to="s001"), "split-keys"),
        (lambda d: edit(d, "seed", to=1), "split-edited"),
        (lambda d: edit(d, "seed", to=True), "split-keys"),
        (lambda d: edit(d, "seed", to="0"), "split-keys"),
        (lambda d: edit(d, "store_digest", to="sha256:0"), "split-edited"),
        (lambda d: edit(d, "class_weights", "a", to=9.0), "split-edited"),
        (lambda d: edit(d, "fractions", "val", to=0.3), "split-fractions"),
        (lambda d: edit(d, "counts", "val", "a", to=-1), "split-keys"),
        (lambda d: d["splits"].update(more=[]), "split-parts"),
        (lambda d: d.pop("counts"), "split-keys"),
        (lambda d: d.pop("digest"), "split-edited"),
        (lambda d: d.update(extra=1), "split-keys"),
        (lambda d: d.update(format=2), "split-format"),
        (lambda d: d.pop("splits"), "split-foreign"),
    ],
)
def test_a_changed_file_is_refused(file, change, code):
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    refused(file, code)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda b: b[: len(b) // 2], "split-damaged"),
        (lambda b: b"", "split-damaged"),
        (lambda b: b"\x89PNG\r\n\x1a\n", "split-damaged"),
        (lambda b: b"[" * 100_000, "split-damaged"),
        (lambda b: b"[]", "split-foreign"),
        (lambda b: b'[{"train": ["a"], "val": ["b"]}]', "split-foreign"),
        (lambda b: b.replace(b'"seed": 0', b'"seed": 0, "seed": 1'), "split-damaged"),
        (lambda b: b.replace(b'"train": 0.8', b'"train": NaN'), "split-damaged"),
        (lambda b: b.replace(b'"train": 0.8', b'"train": 1e999'), "split-keys"),
        (lambda b: b.replace(b'"val": [', b'"val": [], "val": [', 1), "split-damaged"),
    ],
)
def test_a_spoiled_file_is_refused(file, spoil, code):
    file.write_bytes(spoil(file.read_bytes()))
    refused(file, code)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    refused(tmp_path / "none.json", "split-missing")
    refused(tmp_path, "split-missing")


def refused(path: Path, code: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        read_split(path)
    assert caught.value.exit_code == 4
    for line in str(caught.value).splitlines():
        assert line.startswith(f"{path}: ")
        assert " → " in line
    assert f": {code}: " in str(caught.value)
    assert len(str(caught.value).splitlines()) == len(caught.value.problems)


def test_an_edit_by_hand_can_be_accepted(file):
    document = json.loads(file.read_text())
    swap_two(document)
    file.write_text(json.dumps(document))
    store = grouped_store()
    accepted = import_split(file, store)
    assert accepted.method == "given"
    assert accepted.parts["val"] == tuple(document["splits"]["val"])
    write_split(file, accepted)
    assert read_split(file) == accepted
    assert "group-leak" in {problem.code for problem in check_split(accepted, store)}


# --- checking -----------------------------------------------------------------------------------


def codes(problems) -> list[str]:
    return [problem.code for problem in problems]


def small_store(*changes: Row) -> Store:
    """Six samples, 0 and 1 in one group; `changes` replace samples of the same id or add some."""
    rows = {f"s{n}": row_of(f"s{n}", n % 2, "p" if n < 2 else "") for n in range(6)}
    return store_of(list((rows | {row.id: row for row in changes}).values()), ("a", "b"))


SOUND = {"train": ["s0", "s1", "s2", "s3"], "val": ["s4", "s5"]}


def test_a_sound_split_has_no_problems():
    assert check_split(given_split(small_store(), SOUND), small_store()) == []


def test_leaks_are_found_by_id_group_source_and_volume():
    twin = row_of("s4", 0, content="s2")
    other = small_store(twin)
    assert codes(check_split(given_split(other, SOUND), other)) == ["content-leak", "content-leak"]
    only_volume = replace(row_of("s4", 0), sha256=row_of("s2", 0).sha256)
    other = small_store(only_volume)
    assert codes(check_split(given_split(other, SOUND), other)) == ["content-leak"]
    apart = given_split(small_store(), {"train": ["s0", "s2", "s3"], "val": ["s1", "s4", "s5"]})
    (problem,) = check_split(apart, small_store())
    assert (problem.code, problem.reason) == ("group-leak", "the group p is in train and val: 2 ids: s0, s1")
    sound = given_split(small_store(), SOUND)
    twice = replace(sound, parts={**sound.parts, "val": ("s4", "s5", "s0")})
    assert "id-twice" in codes(check_split(twice, small_store()))


def test_left_out_unknown_and_missing_classes_are_found():
    store = small_store()
    split = given_split(store, SOUND)
    assert codes(check_split(replace(split, parts={**split.parts, "val": ("s4",)}), store)) == [
        "in-no-part",
        "class-missing",
    ]
    stranger = replace(split, parts={**split.parts, "val": ("s4", "s5", "s9")})
    assert codes(check_split(stranger, store)) == ["unknown-id"]


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (small_store(row_of("s6", 0)), "added 1 sample: s6"),
        (store_of(list(small_store().rows[:5]), ("a", "b")), "removed 1 sample: s5"),
        (small_store(row_of("s2", 1)), "labels or classes changed"),
        (small_store(row_of("s2", 0, content="new")), "recipe, groups or files changed"),
    ],
)
def test_another_store_is_refused_with_what_changed(store, said):
    split = given_split(small_store(), SOUND)
    with pytest.raises(IntegrityError) as caught:
        require_store(split, store, where="demo.json")
    assert str(caught.value).startswith("demo.json: other-store: ")
    assert said in str(caught.value)
    assert check_split(split, store)[0].code == "other-store"


def test_the_same_store_is_accepted():
    require_store(given_split(small_store(), SOUND), small_store())


def test_the_table_reads():
    table = split_table(make_split(ct_store(), fractions=USUAL, method="viptt-2021"))
    assert table.splitlines() == [
        "                      train         val",
        "Infiltrative     335  80.0%   84  20.0%",
        "Focal            180  79.6%   46  20.4%",
        "Tuberculoma       81  80.2%   20  19.8%",
        "Miliary           80  80.0%   20  20.0%",
        "Fibro-cavernous   56  80.0%   14  20.0%",
        "samples          732  79.9%  184  20.1%",
        "groups                  732         184",
    ]
    leaking = split_table(make_split(ucf50_store(), fractions=USUAL, grouped=False))
    assert leaking.splitlines()[-1].startswith("leaked")
