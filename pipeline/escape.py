"""Text that others chose, made harmless where it is shown: on a terminal, in JSON, in a table.

File names, labels, ids and messages of libraries may hold escape sequences that reprogram a terminal,
or characters that turn the direction of writing so that a line reads as another one (CVE-2021-42574).
"""

import re

# C0, DEL and C1 controls; line and paragraph separators; embeddings, overrides and isolates of the direction
# of writing; surrogates, which stand for bytes that are not UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BYTE = range(0xDC80, 0xDD00)  # where Python keeps the bytes of a name that are not UTF-8 (PEP 383)
# What makes a spreadsheet take a cell for a formula; tab and CR are skipped before it looks.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str, *, keep: str = "") -> str:
    r"""The text with each unprintable character as an escape, except those in ``keep``.

    >>> print(printable("a\x1b[2J\n"))
    a\x1b[2J\n
    """
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def printable_json(text: str) -> str:
    """The same JSON document with its unprintable characters as JSON escapes; line ends stay."""
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if code in _BYTE else ascii(character)[1:-1]


def table_cell(text: str) -> str:
    """A table's cell that no spreadsheet takes for a formula (CWE-1236); ``cell_text`` gives it back."""
    return f"'{text}" if text.startswith((*_FORMULA, "'")) else text


def cell_text(cell: str) -> str:
    """What ``table_cell`` was given; a quote that another program put before a plain text stays."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith((*_FORMULA, "'")) else cell
