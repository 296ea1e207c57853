import csv
import os

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.errors import Problem
from pipeline.escape import printable
from pipeline.sources import Quarantined, read_quarantine, write_quarantine
from pipeline.sources.quarantine import COLUMNS

pytestmark = pytest.mark.unit


def entry(
    source, *, code="gzip-crc", reason="its checksum is wrong", remedy="fetch it again", sha256="ab" * 32
):
    return Quarantined(source, Problem(source, code, reason, remedy), sha256)


def test_columns_and_order(tmp_path):
    path = tmp_path / "ct.quarantine.csv"
    write_quarantine(path, [entry("b.nii", sha256=""), entry("a.nii", reason="x, y")])
    assert path.read_text("utf-8").splitlines() == [
        "source,code,reason,remedy,source_sha256",
        f'a.nii,gzip-crc,"x, y",fetch it again,{"ab" * 32}',
        "b.nii,gzip-crc,its checksum is wrong,fetch it again,",
    ]


def test_order_of_entries_does_not_matter(tmp_path):
    entries = [entry("b"), entry("a"), entry("c")]
    write_quarantine(tmp_path / "one.csv", entries)
    write_quarantine(tmp_path / "two.csv", entries[::-1])
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_absent_when_empty(tmp_path):
    path = tmp_path / "ct.quarantine.csv"
    write_quarantine(path, [])
    assert not path.exists()
    write_quarantine(path, [entry("a")])
    assert path.exists()
    write_quarantine(path, [])
    assert list(tmp_path.iterdir()) == []


def test_nothing_changed_is_not_written_again(tmp_path):
    path = tmp_path / "ct.quarantine.csv"
    write_quarantine(path, [entry("a")])
    os.utime(path, ns=(1, 1))
    write_quarantine(path, [entry("a")])
    assert path.stat().st_mtime_ns == 1
    write_quarantine(path, [entry("b")])
    assert [item.source for item in read_quarantine(path)] == ["b"]


FORMULAS = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'quoted"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(tmp_path, text):
    path = tmp_path / "ct.quarantine.csv"
    item = entry(text, code="x", reason=text, remedy=text, sha256="")
    write_quarantine(path, [item])
    with path.open(newline="", encoding="utf-8") as file:
        _, cells = csv.reader(file)
    assert (cells[0], cells[1], cells[4]) == (f"'{text}", "x", "")
    assert cells[2] == cells[3] == {"\t=1": "\\t=1", "\r=1": "\\r=1"}.get(text, f"'{text}")
    assert [read.source for read in read_quarantine(path)] == [text]


def test_a_message_of_a_library_reaches_no_terminal(tmp_path):
    path = tmp_path / "ct.quarantine.csv"
    write_quarantine(path, [entry("a", reason="\x1b[2Jgone\a", remedy="\u202eturned")])
    (item,) = read_quarantine(path)
    assert (item.problem.reason, item.problem.remedy) == (r"\x1b[2Jgone\x07", r"\u202eturned")
    before = path.read_bytes()
    write_quarantine(path, [item])
    assert path.read_bytes() == before


CELL = st.text(max_size=12) | st.text("=+-@'\",\n\r\t x", max_size=6)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(source="a\rb.nii", code="c", reason="\r", remedy="\n", sha256="")
@example(source=os.fsdecode(b"\xff\xe9.nii"), code="c", reason="r", remedy="é", sha256="0")
@given(source=CELL, code=CELL, reason=CELL, remedy=CELL, sha256=CELL)
def test_what_is_written_is_read(tmp_path, source, code, reason, remedy, sha256):
    path = tmp_path / "ct.quarantine.csv"
    other = entry("other")
    write_quarantine(path, [entry(source, code=code, reason=reason, remedy=remedy, sha256=sha256), other])
    item = entry(source, code=code, reason=printable(reason), remedy=printable(remedy), sha256=sha256)
    assert sorted(read_quarantine(path), key=repr) == sorted([item, other], key=repr)


NOT_OURS = {
    "missing": None,
    "empty": b"",
    "other columns": b"a,b\n1,2\n",
    "our columns in another order": ",".join(COLUMNS[::-1]).encode(),
    "not text": bytes(range(256)),
    "a very long cell": b"x" * 200_000,
    "header and a long cell": ",".join(COLUMNS).encode() + b"\n" + b"x" * 200_000 + b",c,r,f,s\n",
}


@pytest.mark.parametrize("data", NOT_OURS.values(), ids=NOT_OURS)
def test_a_list_that_is_not_ours_reads_as_nothing(tmp_path, data):
    path = tmp_path / "ct.quarantine.csv"
    if data is not None:
        path.write_bytes(data)
    assert read_quarantine(path) == ()


def test_a_cut_last_line_costs_only_itself(tmp_path):
    path = tmp_path / "ct.quarantine.csv"
    write_quarantine(path, [entry("a"), entry("b")])
    path.write_bytes(path.read_bytes()[:-80])
    assert [item.source for item in read_quarantine(path)] == ["a"]
