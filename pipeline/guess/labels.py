"""Where the labels of some sources may stand: in a table, in the names of folders, or in their own names.

Every guess is only a proposal: it is taken if the sources can be listed by it, as `viptt check` does.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.escape import printable
from pipeline.guess.inventory import Inventory

MANY_CLASSES = 100  # more are rather names
PARTS = {"train", "training", "val", "valid", "validation", "test", "testing"}
PERSON = re.compile(r"(sub(ject)?|pat(ient)?|case|p|id|person|volunteer)?[-_ ]?\d+", re.IGNORECASE)
# Where a name tells what must not be separated: a scene of UCF, a subject of BIDS, a numbered patient.
GROUPS = (
    (r"(?P<group>[^/]+_g\d+)_c\d+[^/]*$", "the scene in names like v_Rowing_g01_c02"),
    (r"(?P<group>sub-[A-Za-z0-9]+)", "the subject in names like sub-01"),
    (
        r"(?P<group>(?:[Pp]atient|[Ss]ubject|[Cc]ase|[Pp]at)[-_]?\d+)",
        "the number of the patient in the names",
    ),
)


@dataclass(frozen=True)
class Guess:
    """Labels as a catalog says them, the values that are classes, and the reason in plain words."""

    labels: dict[str, str]
    classes: tuple[str, ...]
    reason: str
    group_reason: str = "no group is obvious; add one if a patient or scene has several sources"
    exclude: tuple[str, ...] = ()


def natural(text: str) -> tuple[float, str]:
    """Sorts numbers by value, before all other texts."""
    return (float(text), "") if re.fullmatch(r"-?\d+(\.\d+)?", text) else (float("inf"), text)


def by_folder(inventory: Inventory) -> Iterator[Guess]:
    """Guesses in which a level of folders gives the class, each with a group first if one is obvious."""
    levels = _folder_levels(inventory.sources)
    for level, names in enumerate(levels):
        if _may_be_classes(names, len(inventory.sources), least=1) and not set(names) <= PARTS:
            expression = f"^{'[^/]+/' * level}(?P<label>[^/]+)/"
            reason = f"the folders {_some(sorted(set(names)))} divide the sources"
            yield from _with_group(inventory.sources, expression, names, reason, levels[level + 1 :])


def by_name(inventory: Inventory) -> Iterator[Guess]:
    """Guesses in which a word of the file names gives the class."""
    endings = inventory.source_type.endings
    words = [re.findall("[A-Za-z]+", _bare_name(source, endings)) for source in inventory.sources]
    for position in range(min(map(len, words))):
        names = [found[position] for found in words]
        if _may_be_classes(names, len(names), least=2):
            before = "[A-Za-z]+[^A-Za-z/]+" * position
            expression = f"(?:^|/)[^A-Za-z/]*{before}(?P<label>[A-Za-z]+)[^/]*$"
            reason = f"word {position + 1} of the file names is one of {_some(sorted(set(names)))}"
            yield from _with_group(inventory.sources, expression, names, reason, ())


def _bare_name(source: str, endings: Iterable[str]) -> str:
    name = PurePosixPath(source).name
    ending = next((ending for ending in endings if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def _folder_levels(sources: Sequence[str]) -> list[list[str]]:
    """The folders' names at each depth at which every source has one; its own name is none."""
    parts = [source.split("/")[:-1] for source in sources]
    return [list(level) for level in zip(*parts, strict=False)] if parts else []


def _may_be_classes(names: Sequence[str], sources: int, *, least: int) -> bool:
    counts = Counter(names)
    people = all(PERSON.fullmatch(name) for name in counts)
    few = 2 <= len(counts) <= min(MANY_CLASSES, sources // 2)
    return few and min(counts.values()) >= least and not people and all(map(_is_printable, counts))


def _is_printable(text: str) -> bool:
    return printable(text) == text


def _with_group(
    sources: Sequence[str],
    expression: str,
    names: Sequence[str],
    reason: str,
    levels: Sequence[Sequence[str]],
) -> Iterator[Guess]:
    classes = tuple(sorted(set(names), key=natural))
    folder = r"(?P<group>[^/]+)/"
    below = [(folder, "the folder below, which holds several sources")] if levels else []
    head = expression.removesuffix("[^/]*$")
    for group, why in (*GROUPS, *below):
        joined = head + ("" if group == folder else ".*?") + group
        if _groups_some(re.compile(joined).search, sources):
            yield Guess({"regex": joined}, classes, reason, why)
    yield Guess({"regex": expression}, classes, reason)


def _groups_some(search: Callable[[str], re.Match[str] | None], sources: Sequence[str]) -> bool:
    """Whether every source has a group, and some share one."""
    found = [search(source) for source in sources]
    groups = {match["group"] for match in found if match}
    return all(found) and 1 < len(groups) < len(sources)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" … ({len(names)} of them)" if len(names) > 4 else "")
