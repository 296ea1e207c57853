"""Folders of frames: their order, what is missing, and who is shown, from names and texts.

The number of a frame is the last run of digits in its name, without the suffix; names that differ in
nothing else are a series. SpaceTime-SonoNet keeps beside such folders ``exams.json``, a list of patients,
each a list of video ids, and ``train-infos.csv`` and ``test-infos.csv``, a line for each video. Nothing
here opens a file.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.errors import ConfigError, Problem, SourceError, some

DIGITS = re.compile(r"(\d+)", re.ASCII)
COLUMNS = ("id-video", "name-video", "name-cvat")


@dataclass(frozen=True)
class FrameOrder:
    """File names in the order of their frames, and the first and last number of each gap in it."""

    names: tuple[str, ...]
    gaps: tuple[tuple[int, int], ...]

    @property
    def missing(self) -> int:
        """How many numbers are missing between the first and the last frame."""
        return sum(last - first + 1 for first, last in self.gaps)


@dataclass(frozen=True)
class Exam:
    """One video of SpaceTime-SonoNet: its id, its folder of frames, and the centre that made it."""

    video: str
    folder: str
    centre: str


def natural_key(name: str) -> tuple[tuple[str | int, ...], str]:
    """Sorts numbers in names by their value: 2 before 10; the name itself decides between 2 and 02.

    >>> sorted(["f10.png", "f2.png", "f1.png"], key=natural_key)
    ['f1.png', 'f2.png', 'f10.png']
    """
    # Texts and numbers take turns, from a text on, so that never one is compared with the other.
    pieces = DIGITS.split(name)
    return tuple(int(piece) if place % 2 else piece for place, piece in enumerate(pieces)), name


def order_frames(names: Iterable[str], *, where: str) -> FrameOrder:
    """Sort the file names of one folder, and find the gaps; ``where`` names the folder in errors.

    Gaps are looked for within each series; names without a number have none. Raises SourceError with a
    problem of code same-frame for each two names that are the same frame: 7.png beside 007.png or 7.jpg.
    """
    ordered = sorted(names, key=natural_key)
    gaps: list[tuple[int, int]] = []
    problems: list[Problem] = []
    frames = sorted((*series_and_number(name), name) for name in ordered)
    for (series, number, name), (other_series, following, other) in pairwise(frames):
        if series != other_series:
            continue
        if following == number:
            reason = f"{name} and {other} are the same frame"
            problems.append(Problem(where, "same-frame", reason, "keep one of them"))
        elif following > number + 1:
            gaps.append((number + 1, following - 1))
    if problems:
        raise SourceError(*problems)
    return FrameOrder(tuple(ordered), tuple(gaps))


def series_and_number(name: str) -> tuple[str, int]:
    """A file name's stem with ``*`` for its last run of digits, and their value, or the stem and -1.

    >>> series_and_number("20190301-1177_NOVERLAY-023.png")
    ('20190301-1177_NOVERLAY-*', 23)
    """
    stem = name.rpartition(".")[0] or name
    found = list(DIGITS.finditer(stem))
    if not found:
        return stem, -1
    last = found[-1]
    return f"{stem[: last.start()]}*{stem[last.end() :]}", int(last[0])


def frame_numbers(order: FrameOrder) -> tuple[str, ...]:
    """What each frame of a folder is called: its number, or its position where numbers are missing or shared.

    >>> frame_numbers(FrameOrder(("frame-007.png", "frame-012.png"), ((8, 11),)))
    ('7', '12')
    """
    numbers = [series_and_number(name)[1] for name in order.names]
    if min(numbers, default=0) < 0 or len(set(numbers)) < len(numbers):
        numbers = list(range(len(order.names)))
    return tuple(map(str, numbers))


def parse_exams(text: str, *, where: str) -> dict[str, str]:
    """The patient of each video id of an ``exams.json``; patients are counted from 1, as its authors did.

    Raises ConfigError with the problems not-json, not-exams (no list of lists of ids), or two-patients for
    each video of more than one patient.
    """
    patients: dict[str, str] = {}
    problems = []
    for number, videos in enumerate(_lists(text, where), start=1):
        for video in map(str, videos):
            other = patients.setdefault(video, str(number))
            if other != str(number):
                reason = f"video {video} belongs to patients {other} and {number}"
                problems.append(Problem(where, "two-patients", reason, "correct the list"))
    if problems:
        raise ConfigError(*problems)
    return patients


def parse_infos(text: str, *, where: str) -> tuple[Exam, ...]:
    """The videos of a ``*-infos.csv``, by its columns id-video, name-video and name-cvat (CENTRE-…).

    Raises ConfigError with the problems no-columns, or no-value and duplicate-video with their lines.
    """
    table = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    absent = [column for column in COLUMNS if column not in (table.fieldnames or ())]
    if absent:
        raise ConfigError.of(where, "no-columns", f"there is no {some(absent, 'column')}", "export it again")
    exams: dict[str, Exam] = {}
    problems = []
    for row in table:
        video, folder, name = (row[column] or "" for column in COLUMNS)
        fault = _row_fault((video, folder, name), exams)
        if fault:
            problems.append(Problem(f"{where}:{table.line_num}", *fault, "correct the line"))
        exams.setdefault(video, Exam(video, folder, name.split("-")[0]))
    if problems:
        raise ConfigError(*problems)
    return tuple(exams.values())


def group_by_folder(exams: Iterable[Exam], patients: Mapping[str, str]) -> dict[str, str | None]:
    """The patient of each folder of frames, by its name and by its video's id; None where none is known."""
    return {name: patients.get(exam.video) for exam in exams for name in (exam.folder, exam.video)}


def _lists(text: str, where: str) -> Sequence[Sequence[str | int]]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ConfigError.of(where, "not-json", str(error), "correct the file") from None
    lists = isinstance(document, list) and all(isinstance(videos, list) for videos in document)
    # True is an int to Python, and no id
    if not lists or any(type(video) not in (str, int) for videos in document for video in videos):
        reason = "it is not a list of patients, each a list of video ids"
        raise ConfigError.of(where, "not-exams", reason, 'write [["ID", "ID"], ["ID"]]')
    ids: Sequence[Sequence[str | int]] = document
    return ids


def _row_fault(values: tuple[str, str, str], exams: Mapping[str, Exam]) -> tuple[str, str] | None:
    """Reason code and reason."""
    empty = [column for column, value in zip(COLUMNS, values, strict=True) if not value]
    if empty:
        return "no-value", f"there is nothing in {some(empty, 'column')}"
    if values[0] in exams:
        return "duplicate-video", f"video {values[0]} stands in a line before"
    return None
