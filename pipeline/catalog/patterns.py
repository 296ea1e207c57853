"""Regular expressions and globs of a catalog, over the paths of sources: text with `/` between folders.

Expressions have the syntax of Python's ``re``. They are matched by ``regex``, which can be given a limit of
time: ``re`` backtracks for hours over such as ``(a|aa)+$``, and holds Python's lock meanwhile.
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

import regex

from pipeline.escape import printable

LIMIT_SECONDS = 1.0  # of CPU time for one path; a sound expression takes microseconds


def check_expression(expression: str) -> str:
    """The expression, if it has a group named ``label``. Raises ValueError."""
    try:
        names = re.compile(expression).groupindex
        # `regex` allows more than `re`; only what both accept is taken.
        regex.compile(expression)
    except (re.error, regex.error) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if "label" not in names:
        raise ValueError("the expression needs a named group (?P<label>…)")
    return expression


def search(expression: str, path: str) -> Mapping[str, str | None] | None:
    """The named groups of the first match in a path, or nothing where there is none.

    Raises TimeoutError where that takes more than a second.
    """
    match = regex.search(expression, path, timeout=LIMIT_SECONDS)
    return None if match is None else match.groupdict()


def check_glob(glob: str) -> str:
    """The glob, if it stays below its folder. Raises ValueError."""
    if glob.startswith("/") or ".." in glob.split("/") or printable(glob) != glob:
        raise ValueError("a glob is relative to `path`, without `..`")
    return glob


def matches_glob(path: str, glob: str) -> bool:
    """Whether a glob takes a path or a folder above it.

    ``*``, ``?`` and ``[…]`` stay within a name, ``**`` stands for any folders. A glob without `/` may
    match at any depth.
    """
    steps = glob.strip("/").split("/")
    # As in .gitignore: a bare name or suffix is meant at any depth.
    steps = ["**", *steps] if len(steps) == 1 else steps
    # The lengths of all beginnings of the glob that fit the folders so far: nothing is ever tried twice.
    fitting = _with_no_folder({0}, steps)
    for name in path.split("/"):
        if len(steps) in fitting:
            break
        fitting = _with_no_folder({after for at in fitting for after in _after(name, steps, at)}, steps)
    return len(steps) in fitting


def _after(name: str, steps: list[str], at: int) -> tuple[int, ...]:
    if steps[at] == "**":
        return (at,)
    return (at + 1,) if fnmatchcase(name, steps[at]) else ()


def _with_no_folder(fitting: set[int], steps: list[str]) -> set[int]:
    """Add the beginnings in which a ``**`` stands for no folder at all."""
    found = set(fitting)
    for at, step in enumerate(steps):
        if at in found and step == "**":
            found.add(at + 1)
    return found
