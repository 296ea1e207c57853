"""What an examination of the machine gives: topics with entries, and what is missing with its remedy."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

COLUMNS = 80
GIB = 1 << 30


@dataclass(frozen=True)
class Entry:
    """One thing that was found: a JSON ``value`` for scripts, and the ``text`` for people."""

    name: str
    value: Any
    text: str


@dataclass(frozen=True)
class Missing:
    """Something that the machine lacks, what that means, and how to get it."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Topic:
    """One topic of an examination, such as the disks."""

    name: str
    entries: tuple[Entry, ...]
    missing: tuple[Missing, ...] = ()


def as_gib(size: float) -> str:
    """Bytes as GiB, with two digits for what is small."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / (1 << 20):.1f} MiB"


def findings_json(topics: Sequence[Topic]) -> dict[str, Any]:
    """All topics, and what is missing, for scripts."""
    document: dict[str, Any] = {
        topic.name: {entry.name.replace(" ", "_"): entry.value for entry in topic.entries} for topic in topics
    }
    missing = [{"what": item.what, "remedy": item.remedy} for topic in topics for item in topic.missing]
    return {**document, "missing": missing}


def findings_text(topics: Sequence[Topic]) -> str:
    """All topics in lines of 80 columns, what is missing at the end."""
    lines: list[str] = []
    for topic in topics:
        width = max((len(entry.name) for entry in topic.entries), default=0)
        lines.append(topic.name)
        for entry in topic.entries:
            lines += _hanging(f"  {entry.name:<{width}}  ", entry.text)
    missing = [item for topic in topics for item in topic.missing]
    lines.append("missing" if missing else "nothing is missing")
    for item in missing:
        lines += _hanging("  - ", f"{item.what} → {item.remedy}")
    return "\n".join(lines)


def _hanging(head: str, text: str) -> list[str]:
    return wrap(
        text, COLUMNS, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
    ) or [head.rstrip()]
