"""The known name that a misspelt one is most like."""

import difflib
import unicodedata
from collections.abc import Iterable

MISSPELT = 0.85  # difflib's ratio: one letter of five, two of thirteen


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` is most like, if one is close, whatever the letter case."""
    folded = {_folded(other): other for other in known}
    text = _folded(name)
    if text in folded:
        return folded[text]
    # A name that is cut short, or longer by a suffix, is likelier than one that shares some letters.
    short = [other for other in folded if text and (other.startswith(text) or text.startswith(other))]
    close = short or difflib.get_close_matches(text, folded, n=1)
    return folded[close[0]] if close else None


def misspelt(name: str, known: Iterable[str]) -> str | None:
    """The known name that differs from ``name`` by a letter or two, or by its letter case alone."""
    folded = {_folded(other): other for other in known}
    close = difflib.get_close_matches(_folded(name), folded, n=1, cutoff=MISSPELT)
    return folded[close[0]] if close else None


def suggestion(name: object, known: list[str]) -> str:
    """A remedy: the nearest known name, or all that are known."""
    close = nearest(str(name), known)
    return f"did you mean `{close}`?" if close else f"use one of: {', '.join(known)}"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()
