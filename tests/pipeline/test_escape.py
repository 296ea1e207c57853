"""What others chose (names, labels, messages) is shown as escapes; the terminal never sees it raw."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Problem
from pipeline.escape import cell_text, printable, printable_json, table_cell

pytestmark = pytest.mark.unit

ESCAPED = {
    "plain é ü 中 a\u0308 \U0001f600 \\x1b": None,
    "\x1b[31mred\x1b[0m": r"\x1b[31mred\x1b[0m",
    "bell\a": r"bell\x07",
    "a\tb\nc\rd": r"a\tb\nc\rd",
    "\x00\x7f\x80\x9b\x9f": r"\x00\x7f\x80\x9b\x9f",
    "\u2028\u2029\u0085": r"\u2028\u2029\x85",
    "scan\u202egpj.exe": r"scan\u202egpj.exe",
    "\u2066a\u2069": r"\u2066a\u2069",
    "\udcff\udce9": r"\xff\xe9",
    "x\ud800": r"x\ud800",
}


@pytest.mark.parametrize(("text", "shown"), ESCAPED.items())
def test_escapes(text, shown):
    assert printable(text) == (text if shown is None else shown)


@given(st.text(st.characters()))
def test_nothing_that_steers_a_terminal_is_left(text):
    shown = printable(text)
    assert not {unicodedata.category(letter) for letter in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not {unicodedata.bidirectional(letter) for letter in shown} & {
        "LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI",
    }  # fmt: skip
    assert printable(shown) == shown
    shown.encode("utf-8")


def test_line_ends_of_a_table_are_kept():
    assert printable("a\x1b\nb\r\n", keep="\n") == "a\\x1b\nb\\r\n"


@given(
    st.recursive(st.text(st.characters()), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_a_json_document_stays_the_same(document):
    text = printable_json(json.dumps(document, indent=2, ensure_ascii=False))
    assert json.loads(text) == document
    assert printable(text, keep="\n") == text


def test_a_problem_is_one_printable_line():
    problem = Problem("raw/a\n\x1b]0;x\a.nii", "unreadable", "its\n  decoder\x1b[2J failed", "look\u202e")
    assert str(problem) == r"raw/a\n\x1b]0;x\x07.nii: unreadable: its decoder\x1b[2J failed → look\u202e"


@given(st.text(st.sampled_from("=+-@\t\r'ab"), max_size=5))
def test_a_cell_comes_back(text):
    cell = table_cell(text)
    assert cell_text(cell) == text
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
