"""Strict reading of JSON: keys, types, ids and sums of a split file."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import IntegrityError, Problem, ResourceError, some
from pipeline.split.terms import ASSIGN_AGAIN, FORMAT, Lists


def read_json(path: Path) -> Any:
    """Parse a JSON file that must not be cut, name a key twice, or hold NaN."""
    if not path.is_file():
        reason = "it is not a file" if path.exists() else "there is no such file"
        raise IntegrityError.of(path, "split-missing", reason, "run `viptt split` first")
    try:
        return json.loads(path.read_bytes().decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except OSError as error:
        raise ResourceError.of(path, "cannot-read", str(error.strerror), "fix permissions") from error
    except (ValueError, RecursionError) as error:
        raise IntegrityError.of(
            path, "split-damaged", f"it is not sound JSON: {error}", ASSIGN_AGAIN
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"the key {twice[0]!r} is there twice")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


Check = Callable[[Any], bool]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count(value: Any) -> bool:
    return _whole(value) and value >= 0


def _number(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    )


def is_text(value: Any) -> bool:
    """Whether a value is a text that is not empty."""
    return isinstance(value, str) and value != ""


def list_of(check: Check) -> Check:
    """A check that a value is a list, each entry of which passes ``check``."""
    return lambda value: isinstance(value, list) and all(map(check, value))


def map_of(check: Check) -> Check:
    """A check that a value is a map, each value of which passes ``check``."""
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


REQUIRED: Mapping[str, Check] = {
    "format": _whole,
    "dataset": is_text,
    "store_digest": is_text,
    "method": is_text,
    "seed": _whole,
    "fractions": map_of(_number),
    "splits": map_of(list_of(is_text)),
    "counts": map_of(map_of(_count)),
}


_OPTIONAL: Mapping[str, Check] = {
    "class_weights": map_of(_number),
    "groups": map_of(_count),
    "leaked": map_of(_count),
    "excluded": list_of(is_text),
    "warnings": list_of(is_text),
    "digest": is_text,
}


def check_shape(path: Path, document: Any) -> None:
    """Raise IntegrityError unless a document has the keys, types, ids and sums of a split file."""
    keys = set(document) if isinstance(document, dict) else set()
    if "splits" not in keys or "store_digest" not in keys:
        remedy = "give a split file of viptt, or bring this one in with `viptt split --import`"
        raise IntegrityError.of(path, "split-foreign", "it was not made by viptt", remedy)
    if document.get("format") != FORMAT:
        reason = f"format {document.get('format')!r}; this version reads format {FORMAT}"
        raise IntegrityError.of(path, "split-format", reason, f"{ASSIGN_AGAIN} with this version")
    missing, unknown = set(REQUIRED) - keys, keys - set(REQUIRED) - set(_OPTIONAL)
    checks = {**REQUIRED, **_OPTIONAL}
    wrong = sorted(key for key in keys & set(checks) if not checks[key](document[key]))
    for words, found in (
        ("it lacks", missing),
        ("it has the unknown", unknown),
        ("of a wrong type is", wrong),
    ):
        if found:
            raise IntegrityError.of(path, "split-keys", f"{words} {', '.join(sorted(found))}", ASSIGN_AGAIN)
    problems = id_problems(path, document["splits"]) + _sum_problems(path, document)
    if problems:
        raise IntegrityError(*problems)


def _sum_problems(path: Path, document: Mapping[str, Any]) -> list[Problem]:
    names = set(document["splits"])
    if not names or set(document["fractions"]) != names or set(document["counts"]) != names:
        return [
            Problem(
                str(path), "split-parts", "splits, fractions and counts name different splits", ASSIGN_AGAIN
            )
        ]
    if abs(sum(document["fractions"].values()) - 1) > 1e-6:
        return [Problem(str(path), "split-fractions", "the fractions do not sum to 1", ASSIGN_AGAIN)]
    off = [
        name
        for name in sorted(names)
        if sum(document["counts"][name].values()) != len(document["splits"][name])
    ]
    reason = f"the counts do not fit the ids of {', '.join(off)}"
    return [Problem(str(path), "split-counts", reason, ASSIGN_AGAIN)] if off else []


def id_problems(where: object, lists: Lists) -> list[Problem]:
    """Ids that could lead out of a folder, and ids that are there twice."""
    times = Counter(sample for ids in lists.values() for sample in ids)
    unsafe = sorted(filter(_unsafe, times))
    twice = sorted(sample for sample, count in times.items() if count > 1)
    problems = []
    if unsafe:
        reason = f"a path or control character in {some([ascii(sample) for sample in unsafe], 'id')}"
        problems.append(Problem(str(where), "unsafe-id", reason, ASSIGN_AGAIN))
    if twice:
        problems.append(
            Problem(
                str(where), "id-twice", f"in two splits or twice in one: {some(twice, 'id')}", ASSIGN_AGAIN
            )
        )
    return problems


def _unsafe(sample: str) -> bool:
    control = any(ord(letter) < 32 or ord(letter) == 127 for letter in sample)
    return control or ".." in re.split(r"[/\\]", sample) or bool(re.match(r"[/\\]|[A-Za-z]:[/\\]", sample))
