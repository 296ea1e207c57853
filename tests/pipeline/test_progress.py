"""Progress says how long the rest will take, from the first result on: before it, workers start."""

import io
import re

import click
import pytest

from pipeline import console

pytestmark = pytest.mark.unit

START, EACH = 20.0, 2.0  # seconds until the first result, and from one to the next


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that both clocks show."""
    now = [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def shown(clock: list[float], stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a progress of 100 has said when 10 are done."""
    monkeypatch.setattr("sys.stderr", stream)
    with (
        click.Context(click.Command("build"), obj=console.Settings()),
        console.progress("ct", 100, "sources") as report,
    ):
        clock[0] += START
        report(1)
        for _ in range(9):
            clock[0] += EACH
            report(1)
        return stream.getvalue()


def test_a_bar_knows_the_time_left(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    said = re.findall(r"(\d\d):(\d\d):(\d\d)", shown(clock, Terminal(), monkeypatch))
    hours, minutes, seconds = map(int, said[-1])
    assert 0.7 * 90 * EACH <= 3600 * hours + 60 * minutes + seconds <= 1.1 * 90 * EACH


def test_lines_know_the_time_left(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    said = re.findall(r"(\d+) of 100 sources, .*, (\d+) s left", shown(clock, io.StringIO(), monkeypatch))
    assert [(int(done), float(left)) for done, left in said] == [
        (count, EACH * (100 - count)) for count in (2, 5, 8)
    ]
