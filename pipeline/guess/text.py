"""The text of a drafted catalog, with comments that say what each line decides."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.escape import printable
from pipeline.guess.inventory import Inventory
from pipeline.guess.labels import Guess

PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*(?<![.-])")
NOT_TEXT = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}  # to some parsers of YAML
MAX_STEPS_UP = 2
WIDTH = 100
RECIPES = {
    "nifti": "{shape: [70, 224, 224], spline_order: 3, window: [-1000, 400], dtype: float16}",
    "video": "{shape: [70, 224, 224], spline_order: 3, frames: all, dtype: float16}",
    "frames": "{shape: [70, 224, 224], spline_order: 3, frames: all, dtype: float16}",
}
MEANINGS = {
    "nifti": "`window`: the Hounsfield units that become 0 to 1",
    "video": "`frames`: all, first, or such as every 3",
    "frames": "pictures of 16 bits need `window: [lowest, highest]` here",
}


def catalog_text(
    inventory: Inventory,
    guess: Guess,
    catalog: Path,
    *,
    name: str,
    window: tuple[float, float] | None = None,
) -> str:
    """The document, with paths relative to the catalog where that is short."""
    home = catalog.absolute().parent
    kind = inventory.source_type.name
    # A store must not lie among the sources.
    inside = home.resolve().is_relative_to(inventory.folder.resolve())
    base = _path(inventory.folder.resolve().parent, home) + "/" if inside else ""
    recipe = RECIPES[kind]
    if window:
        recipe = recipe.replace("frames:", f"window: [{window[0]:g}, {window[1]:g}], frames:")
    lines = [
        "# Written by `viptt init`: every line is a guess. Paths are relative to this file.",
        "# Next: viptt check, viptt build, viptt split, viptt report " + name,
        "version: 1",
        "datasets:",
        f"  {name}:",
        f"    type: {kind}  # {inventory.reason}",
        f"    path: {_path(inventory.folder, home)}",
        *_exclude(guess.exclude),
        f"    # {guess.reason}",
        f"    # group: {guess.group_reason}",
        f"    labels: {_labels(guess, home)}",
        "    # a list of names, or a map from the value in the table to the name; index = position",
        *_classes(guess),
        f"    # `shape`: depth, height, width of every volume; {MEANINGS[kind]}",
        f"    recipe: {recipe}",
        f"    store: {base}cache/{name}.zarr",
        f"    split: {{file: {base}splits/{name}.json, fractions: {{train: 0.8, val: 0.2}}, seed: 0}}",
    ]
    return "\n".join(map(printable, lines)) + "\n"  # names of files stand in comments


def _exclude(globs: Sequence[str]) -> list[str]:
    if not globs:
        return []
    return ["    exclude:  # the table does not name them", *(f"      - {quoted(text)}" for text in globs)]


def _labels(guess: Guess, home: Path) -> str:
    values = {key: quoted(value) for key, value in guess.labels.items()}
    if "file" in values:
        values["file"] = _path(Path(guess.labels["file"]), home)
    return "{" + ", ".join(f"{key}: {value}" for key, value in values.items()) + "}"


def _classes(guess: Guess) -> list[str]:
    named = all(PLAIN.fullmatch(value) for value in guess.classes)
    if named or "regex" in guess.labels:
        return _wrapped("    classes: [", [quoted(value) for value in guess.classes], "]")
    # Numbers and the like: a map invites to give them names.
    pairs = [f"{quoted(value)}: {quoted(value)}" for value in guess.classes]
    return _wrapped("    classes: {", pairs, "}")


def _wrapped(head: str, items: Sequence[str], tail: str) -> list[str]:
    lines = [head]
    for number, item in enumerate(items, start=1):
        text = item + (tail if number == len(items) else ", ")
        if len(lines[-1]) + len(text) > WIDTH and lines[-1] != head:
            lines[-1] = lines[-1].rstrip()
            lines.append(" " * len(head))
        lines[-1] += text
    return lines


def _path(path: Path, home: Path) -> str:
    """A path as a catalog says it: relative to its folder unless it is far away."""
    relative = os.path.relpath(path.absolute(), home)
    far = relative.split("/")[:MAX_STEPS_UP].count("..") == MAX_STEPS_UP
    text = str(path.absolute()) if far else relative
    text = f"./{text}" if text.startswith("~") else text
    return quoted(text.replace("$", "$$"))  # `$NAME` is a variable there


def quoted(text: str) -> str:
    """A text as YAML that no parser takes for something else."""
    if (PLAIN.fullmatch(text) and text.lower() not in NOT_TEXT) or text in (".", ".."):
        return text
    return "'" + text.replace("'", "''") + "'"
