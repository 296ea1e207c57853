"""Which versions made a volume: of the program, of the libraries that decide its bytes, of the converter.

Each row of a store keeps its own, because a build keeps volumes that an earlier one made.
"""

import json
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version

from pipeline import __version__
from pipeline.files import canonical_json

LIBRARIES = ("numpy", "scipy", "nibabel", "opencv-python-headless", "av", "zarr")
FIRST = 1  # the converter of stores whose rows do not say


@cache
def versions() -> dict[str, str]:
    """Versions of what decides the bytes of a volume, as they are now."""
    return {"viptt": __version__, **{name: version(name) for name in LIBRARIES}}


@cache
def made_with(converter: int) -> str:
    """The text that a row keeps of what made its volume: the versions and the number of its converter."""
    return canonical_json({**versions(), "converter": converter}).decode()


def converter_of(made_with: str) -> int:
    """The converter's number in a row's text."""
    return int(json.loads(made_with or "{}").get("converter", FIRST))


def created_with(rows: Iterable[str]) -> dict[str, str]:
    """What a store's header says: for each library the version that made the rows, or all of them."""
    found: dict[str, set[str]] = {}
    for text in set(rows):
        for name, value in json.loads(text or "{}").items():
            found.setdefault(name, set()).add(str(value))
    found.pop("converter", None)
    return {name: ", ".join(sorted(values)) for name, values in found.items()}
