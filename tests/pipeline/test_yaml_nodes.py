import json
import os
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.yaml_nodes import MAX_BYTES, MAX_DEPTH, child, line_of, plain, read_yaml

pytestmark = pytest.mark.unit


def wave(levels: int) -> str:
    """Each line holds the line above nine times: nine to the power of ``levels`` values."""
    lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels + 1)]
    return "\n".join(["a0: &a0 [lol]", *lines])


def tower(links: int) -> str:
    """Few values, few levels in the text, but each line stands on top of the one above."""
    open_, close = "[" * 26, "]" * 26
    return "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} {open_}*a{n - 1}{close}" for n in range(1, links))])


def merges(levels: int) -> str:
    lines = [f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}" for n in range(1, levels + 1)]
    return "\n".join(["m0: &m0 {a: 1}", *lines])


REFUSED = {  # where the fault lies below the file as a whole, its line
    "Y1 python tag": ("a: 1\nb: !!python/object/apply:os.system [id]", "tag", ":2"),
    "Y1 own tag": ("a: !thing 1", "tag", ":1"),
    "Y1 binary": ("a: !!binary aGk=", "tag", ":1"),
    "Y1 text tagged int": ("a: !!int abc", "tag", ":1"),
    "Y1 text tagged float": ("a: 1\nb: !!float abc", "tag", ":2"),
    "Y1 text tagged bool": ("a: !!bool maybe", "tag", ":1"),
    "Y1 text tagged null": ("a: !!null maybe", "tag", ":1"),
    "Y1 list tagged map": ("a: !!map [1]", "tag", ":1"),
    "Y2 laughs": (wave(9), "too-large", ""),
    "Y3 twice": ("a: 1\nb: 2\na: 3", "duplicate-key", ":3"),
    "Y3 twice below": ("a:\n  - {b: 1, b: 1}", "duplicate-key", ":2"),
    "Y5 empty": ("", "not-a-catalog", ""),
    "Y5 comment": ("# nothing\n", "not-a-catalog", ""),
    "Y5 list": ("- a", "not-a-catalog", ""),
    "Y5 scalar": ("hello", "not-a-catalog", ""),
    "Y6 tab": ("a:\n\tb: 1", "not-yaml", ":2:1"),
    "Y6 NUL": ("a: 1\nb: x\0y", "not-yaml", ":2:5"),
    "Y6 latin-1": (b"a: 1\nb: caf\xe9", "not-utf-8", ":2:7"),
    "Y6 utf-16": ("a: 1".encode("utf-16"), "not-utf-8", ":1:1"),
    "Y6 two documents": ("a: 1\n---\nb: 1", "not-yaml", ":2:1"),
    "Y6 unclosed": ("a: [1", "not-yaml", ":1:6"),
    "Y6 unknown anchor": ("a: *b", "not-yaml", ":1:4"),
    "Y7 deep": ("a: " + "[" * 3000 + "]" * 3000, "too-deep", ""),
    "Y7 deep unclosed": ("[" * 500_000, "too-deep", ""),
    "Y7 loop": ("a: &x [*x]", "too-large", ""),
    "Y7 loop of maps": ("a: &x {b: {c: *x}}", "too-large", ""),
    "Y7 tower of anchors": (tower(80), "too-deep", ""),
    "Y8 merge keys": (merges(22), "too-large", ""),
    "Y8 one merge key": ("a: &a {b: 1}\nc:\n  <<: *a", "key", ":3"),
    "key is a list": ("? [a]\n: 1", "key", ":1"),
    "Y11 large": ("#" * (MAX_BYTES + 1), "too-large", ""),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("text", "code", "place"), REFUSED.values(), ids=REFUSED)
def test_refuses_with_file_and_line(tmp_path, refusal, text, code, place):
    file = tmp_path / "catalog.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    start = time.monotonic()
    first, *_ = refusal(ConfigError, lambda: read_yaml(file))
    assert time.monotonic() - start < 2
    assert (first.code, first.where) == (code, f"{file}{place}")


def test_configuration_is_exit_code_2():
    assert ConfigError.exit_code == 2


def test_tags_are_never_acted_on(tmp_path, refusal):
    file, trace = tmp_path / "catalog.yaml", tmp_path / "trace"
    file.write_text(f"a: !!python/object/apply:os.system ['touch {trace}']")
    refusal(ConfigError, lambda: read_yaml(file))
    assert not trace.exists()


def test_all_faults_of_structure_are_told_at_once(tmp_path, refusal):
    file = tmp_path / "catalog.yaml"
    file.write_text("a: 1\na: 2\nb: !x 1\nc: {d: 1, d: 2}\n? [e]\n: 1\n")
    found = refusal(ConfigError, lambda: read_yaml(file))
    told = [(problem.where.removeprefix(f"{file}:"), problem.code) for problem in found]
    assert sorted(told) == [("2", "duplicate-key"), ("3", "tag"), ("4", "duplicate-key"), ("5", "key")]


NOT_FILES = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "looping link": lambda path: path.symlink_to(path),
    "pipe": lambda path: os.mkfifo(path),
    "endless device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", NOT_FILES.values(), ids=NOT_FILES)
def test_only_regular_files_are_read(tmp_path, refusal, make):
    file = tmp_path / "catalog.yaml"
    make(file)
    (problem,) = refusal(ConfigError, lambda: read_yaml(file))
    assert (problem.where, problem.code) == (str(file), "no-catalog")
    assert "--catalog" in problem.remedy


SCALARS = {  # YAML 1.2, 10.3 (core schema), by hand
    "null": None,
    "~": None,
    "": None,
    "true": True,
    "False": False,
    "no": "no",
    "NO": "NO",
    "on": "on",
    "y": "y",
    "010": "010",  # 8 in YAML 1.1, 10 in 1.2
    "-007": "-007",
    "00": "00",
    "00.5": "00.5",
    "0": 0,
    "0.5": 0.5,
    "10": 10,
    "+7": 7,
    "-0": 0,
    "12:30:45": "12:30:45",
    "1_000": "1_000",
    "１": "１",  # full width
    "1e-3": 0.001,
    "+1.5": 1.5,
    ".5": 0.5,
    "5.": 5.0,
    "-1E2": -100.0,
    ".inf": float("inf"),
    "-.Inf": float("-inf"),
    "+.INF": float("inf"),
    "2021-05-06": "2021-05-06",
    "1.2.3": "1.2.3",
    "'1'": "1",
    '"null"': "null",
    "<<": "<<",
}


@pytest.mark.parametrize(("text", "value"), SCALARS.items(), ids=SCALARS)
def test_scalars_are_those_of_yaml_1_2(tmp_path, text, value):
    file = tmp_path / "catalog.yaml"
    file.write_text(f"key: {text}\n", "utf-8")
    (found,) = plain(read_yaml(file)).values()
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_nan_is_a_number(tmp_path, text):
    file = tmp_path / "catalog.yaml"
    file.write_text(f"key: {text}\n")
    assert str(plain(read_yaml(file))) == "{'key': nan}"


def test_keys_are_text_as_written(tmp_path):
    file = tmp_path / "catalog.yaml"
    file.write_text("1: a\n01: b\nNO: c\n~: d\n1.0: e\n")
    assert list(plain(read_yaml(file))) == ["1", "01", "NO", "~", "1.0"]


def test_anchors_stand_for_their_values(tmp_path):
    file = tmp_path / "catalog.yaml"
    file.write_text("a: &x {b: [1, 2]}\nc: [*x, *x]\n")
    assert plain(read_yaml(file)) == {"a": {"b": [1, 2]}, "c": [{"b": [1, 2]}] * 2}


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_byte_order_mark_and_line_ends(tmp_path, prefix, ends):
    file = tmp_path / "catalog.yaml"
    file.write_bytes(prefix + f"a: 1{ends}b: ü{ends}".encode())
    assert plain(read_yaml(file)) == {"a": 1, "b": "ü"}


def test_depth_up_to_the_limit_is_read(tmp_path):
    file = tmp_path / "catalog.yaml"
    file.write_text("a: " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))
    value, depth = plain(read_yaml(file)), 0
    while value:
        value, depth = next(iter(value.values())) if isinstance(value, dict) else value[0], depth + 1
    assert depth == MAX_DEPTH - 1  # the innermost list is empty


LINES = """\
version: 1
datasets:
  one:
    shape: [1,
            2]
    more: {a: 1,
           b: 2}
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ([], 1),
        (["version"], 1),
        (["datasets", "one"], 3),
        (["datasets", "one", "shape", 1], 4),
        (["datasets", "one", "more", "b"], 7),
        (["datasets", "one", "more", "c"], 6),
        (["datasets", "two", "more"], 2),
        (["nothing"], 1),
    ],
)
def test_line_of_the_deepest_part_that_is_there(tmp_path, path, line):
    file = tmp_path / "catalog.yaml"
    file.write_text(LINES)
    assert line_of(read_yaml(file), path) == line


def test_child_of_maps_lists_and_nothing(tmp_path):
    file = tmp_path / "catalog.yaml"
    file.write_text("a: [x, y]\n1: z\n")
    root = read_yaml(file)
    assert child(child(root, "a"), 1).value == "y"
    assert child(root, 1).value == "z"
    assert child(child(root, "a"), 2) is None
    assert child(child(root, "a"), "x") is None
    assert child(root, "b") is None
    assert child(None, "b") is None


LETTERS = st.characters(exclude_categories=("C", "Zl", "Zp"))
TEXT = st.text(LETTERS, max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT.filter("<<".__ne__), inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=st.dictionaries(TEXT.filter("<<".__ne__), VALUES, max_size=4))
def test_json_is_yaml(tmp_path, document):
    file = tmp_path / "catalog.yaml"
    file.write_text(json.dumps(document, ensure_ascii=False), "utf-8")
    assert plain(read_yaml(file)) == document


PIECES = "&*!<>|?:-[]{}'\"#%@`,\n\t ~0x.eINFaé\0\x85\ufeff"
WORDS = ["!!int ", "!!map ", "!!float ", "<<: ", "---\n", "...\n", "&a ", "*a", ".Inf", "? ", "%YAML 1.1\n"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.sampled_from(WORDS) | st.text(PIECES, max_size=6) | st.text(max_size=6)))
def test_any_text_is_read_or_refused(tmp_path, parts):
    check_read_or_refused(tmp_path / "catalog.yaml", "".join(parts).encode("utf-8", "replace"))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path, data):
    check_read_or_refused(tmp_path / "catalog.yaml", data)


def check_read_or_refused(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    try:
        root = read_yaml(file)
    except ConfigError as error:
        assert all(line.startswith(str(file)) for line in str(error).splitlines())  # noqa: PT017
    else:
        assert isinstance(root, yaml.MappingNode)
        assert isinstance(plain(root), dict)
