"""The pages for people: the files that they name are there, and a sample takes the way that they describe."""

import re
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from click.testing import CliRunner

from cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
NAMED = re.compile(r"`((?:pipeline|model|tests|benchmarks|docs)/[\w./-]+\.\w+)`")
LINKED = re.compile(r"\[[^\]\"]+\]\((?!https?:|#)([^)#\s]+)")
EXAMPLES = {"pipeline/readers/npy.py", "model/mean_net.py"}  # of CONTRIBUTING.md
# A sample gets its label, its values and its bytes in these functions.
MILESTONES = ("label_by_table", "zoom", "write_chunk")
MAX_STOPS = 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text("utf-8")
    named = {ROOT / name for name in NAMED.findall(text) if name not in EXAMPLES}
    linked = {page.parent / link for link in LINKED.findall(text)}
    assert [path for path in sorted(named | linked) if not path.exists()] == []


def test_every_page_is_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    pages = [page.name for page in ROOT.glob("docs/*.md")]
    assert len(pages) > 5
    assert [name for name in pages if f"docs/{name}" not in readme] == []


def test_a_sample_takes_the_way_that_the_map_shows(tmp_path: Path, ct_dataset: Callable[..., Path]) -> None:
    stops, helpers = described_way()
    assert len(stops) <= MAX_STOPS
    catalog = ct_dataset(tmp_path, scans=2)
    ways = ways_to_milestones(["build", "--scheduler", "sync", "--catalog", str(catalog)])
    assert set(ways) == set(MILESTONES)
    for way in ways.values():
        assert len(set(way)) == len(way), f"back and forth: {way}"
        assert set(way) <= {*stops, *helpers}
        assert [name for name in way if name in stops] == [name for name in stops if name in way]
    assert {name for way in ways.values() for name in way} >= set(stops)


def described_way() -> tuple[list[str], set[str]]:
    """The files that the map lists as stops of a sample, in order, and those that are called in passing."""
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    section = text.partition("## The life of one sample")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| \d+ \| `([^`]+)` \|.*\|([^|]*)\|$", section, re.MULTILINE)
    return [stop for stop, _ in rows], {name for _, cell in rows for name in NAMED.findall(cell)}


def ways_to_milestones(arguments: list[str]) -> dict[str, list[str]]:
    """Milestone → the files of the program on the stack, from ``cli.build`` to its first call."""
    found: dict[str, list[str]] = {}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_code.co_name
        if event == "call" and name in MILESTONES and name not in found and own_file(frame):
            found[name] = way_to(frame)

    sys.setprofile(note)
    try:
        result = CliRunner().invoke(main, arguments)
    finally:
        sys.setprofile(None)
    assert result.exit_code == 0, result.stderr
    return found


def way_to(frame: FrameType) -> list[str]:
    files = [name for caller in reversed(list(callers(frame))) if (name := own_file(caller))]
    return [name for name, _ in groupby(files)]


def callers(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and those that called it, up to the command."""
    while frame is not None:
        yield frame
        if (own_file(frame), frame.f_code.co_name) == ("cli.py", "build"):
            return
        frame = frame.f_back


def own_file(frame: FrameType) -> str:
    """Path of a frame's file below the root; "" for the files of others."""
    path = Path(frame.f_code.co_filename)
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    return name if name.startswith(("cli.py", "pipeline/")) else ""
