"""YAML text to nodes and plain values, within bounds, for people who will see the error messages.

The YAML read here is the core of YAML 1.2: ``NO`` and ``12:30`` are text, keys are text, and a key
given twice, merge keys, and tags are errors. Numbers do not begin with a needless zero: ``010``, which is
8 to some readers and 10 to others, is text. Nodes keep their line numbers.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import Code, ConfigError, Problem

MAX_BYTES = 1_000_000
MAX_DEPTH = 30
MAX_NODES = 100_000
PREFIX = "tag:yaml.org,2002:"
FIX = "correct the catalog; README.md shows a complete one"


@dataclass(frozen=True)
class Kind:
    """What a file is to its reader: its ``name``, the ``form`` of its map, and what errors say of it.

    ``find`` is the remedy where there is no such file, ``fix`` where its content is wrong.
    """

    name: str
    form: str
    missing: Code
    foreign: Code
    find: str
    fix: str


CATALOG = Kind(
    name="a catalog",
    form="a map with `version` and `datasets`",
    missing=Code.NO_CATALOG,
    foreign=Code.NOT_A_CATALOG,
    find="give the path of a catalog with --catalog FILE",
    fix=FIX,
)


def read_yaml(file: Path, *, kind: Kind = CATALOG) -> yaml.Node:
    """Read a file to its root node, a map. Raises ConfigError with file and line."""
    return _compose(file, _read_text(file, kind), kind)


def to_yaml(document: Mapping[str, Any]) -> str:
    """A document as text that ``read_yaml`` takes, its keys in their order."""
    text: str = yaml.safe_dump(document, sort_keys=False, default_flow_style=None, allow_unicode=True)
    return text


def plain(node: yaml.Node) -> Any:
    """A node as dicts, lists and scalars; the text of a key stays as it was written."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [plain(value) for value in node.value]
    return _scalar(node.tag.removeprefix(PREFIX), node.value)


def child(node: yaml.Node | None, step: str | int) -> yaml.Node | None:
    """The value at a key of a map or an index of a list, if there is one."""
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == str(step)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        found: yaml.Node = node.value[step]
        return found
    return None


def line_of(root: yaml.Node, path: list[str | int]) -> int:
    """Line, from 1, of the deepest part of a path that stands in the document."""
    line, node = root.start_mark.line + 1, root
    for step in path:
        if isinstance(node, yaml.MappingNode):
            line = next((key.start_mark.line + 1 for key, _ in node.value if key.value == str(step)), line)
        below = child(node, step)
        if below is None:
            break
        node = below
    return line


class _CoreLoader(yaml.SafeLoader):
    """YAML 1.2 core scalars; PyYAML wants its resolvers on a class."""


WHOLE = r"(0|[1-9][0-9]*)"
NUMBER = rf"[-+]?(\.[0-9]+|{WHOLE}(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
SCALARS = {
    f"{PREFIX}null": (re.compile(r"(null|Null|NULL|~|)\Z"), ["n", "N", "~", ""]),
    f"{PREFIX}bool": (re.compile(r"(true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    f"{PREFIX}int": (re.compile(rf"[-+]?{WHOLE}\Z"), list("-+0123456789")),
    f"{PREFIX}float": (re.compile(rf"({NUMBER})\Z"), list("-+.0123456789")),
}
_CoreLoader.yaml_implicit_resolvers = {}
for _tag, (_pattern, _first) in SCALARS.items():
    _CoreLoader.add_implicit_resolver(_tag, _pattern, _first)


def _read_text(file: Path, kind: Kind) -> str:
    try:
        size = file.stat().st_size
        text = file.read_bytes() if size <= MAX_BYTES and file.is_file() else b""
    except OSError as error:
        raise ConfigError.of(file, kind.missing, str(error.strerror), kind.find) from None
    if not file.is_file():
        raise ConfigError.of(file, kind.missing, "it is not a file", kind.find)
    if size > MAX_BYTES:
        reason = f"{kind.name} of {size} bytes"
        raise ConfigError.of(file, Code.TOO_LARGE, reason, f"keep it under {MAX_BYTES} bytes")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = _place(file, error.object[: error.start].decode("utf-8"))
        raise ConfigError.of(where, Code.NOT_UTF_8, "a byte is not UTF-8", "save it as UTF-8") from None


def _compose(file: Path, text: str, kind: Kind) -> yaml.Node:
    """Parse to nodes, which keep their line numbers, within bounds of depth and expanded size."""
    try:
        _check_depth(file, text, kind)
        root = yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise ConfigError.of(where, Code.NOT_YAML, str(error.problem or error.context), kind.fix) from None
    except yaml.reader.ReaderError as error:
        where = _place(file, text[: error.position])
        reason = f"{kind.name} has no character U+{error.character:04X}"
        raise ConfigError.of(where, Code.NOT_YAML, reason, kind.fix) from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError.of(file, kind.foreign, f"the document is not {kind.form}", kind.fix)
    problems = list(_structure_problems(file, root, kind.fix))
    if problems:
        raise ConfigError(*problems)
    return root


def _place(file: Path, before: str) -> str:
    """File, line and column, both from 1, of what follows this text."""
    lines = before.split("\n")
    return f"{file}:{len(lines)}:{len(lines[-1]) + 1}"


def _check_depth(file: Path, text: str, kind: Kind) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_CoreLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ConfigError.of(file, Code.TOO_DEEP, f"nested more than {MAX_DEPTH} levels", kind.fix)


def _structure_problems(file: Path, root: yaml.Node, fix: str) -> Iterator[Problem]:
    """Loops, anchors that expand without bound, keys given twice or not text, merge keys, and tags."""
    size, depth = _expanded(root, {}, set())
    if size > MAX_NODES:
        yield Problem(str(file), Code.TOO_LARGE, f"its anchors expand to over {MAX_NODES} values", fix)
        return
    if depth > 2 * MAX_DEPTH:
        yield Problem(str(file), Code.TOO_DEEP, f"its anchors expand to {depth} levels", fix)
        return
    for node in _walk(root):
        where = f"{file}:{node.start_mark.line + 1}"
        if not _tag_fits(node):
            yield Problem(
                where,
                Code.TAG,
                f"tags such as {node.tag} are not read",
                "write plain text, numbers, lists, maps",
            )
        if isinstance(node, yaml.MappingNode):
            yield from _key_problems(file, node, fix)


def _key_problems(file: Path, node: yaml.MappingNode, fix: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for key, _ in node.value:
        where = f"{file}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
            yield Problem(where, Code.KEY, "a key is a plain text; merge keys are not read", fix)
        elif key.value in seen:
            yield Problem(where, Code.DUPLICATE_KEY, f"`{key.value}` is given twice", "keep one of them")
        else:
            seen.add(key.value)


def _tag_fits(node: yaml.Node) -> bool:
    """Whether a tag, written out or not, is one of the core and says what the value is."""
    if isinstance(node, yaml.ScalarNode):
        pattern, _ = SCALARS.get(node.tag, (None, []))
        return bool(node.tag == f"{PREFIX}str" or (pattern and pattern.match(node.value)))
    return bool(node.tag == PREFIX + ("map" if isinstance(node, yaml.MappingNode) else "seq"))


def _expanded(node: yaml.Node, known: dict[int, tuple[int, int]], above: set[int]) -> tuple[int, int]:
    """Values and levels after anchors are expanded, each node visited once; a loop counts as too many."""
    if id(node) in above:
        return MAX_NODES + 1, 0
    if id(node) not in known:
        above.add(id(node))
        below = [_expanded(child, known, above) for child in _children(node)]
        above.discard(id(node))
        known[id(node)] = (
            1 + sum(size for size, _ in below),
            1 + max((depth for _, depth in below), default=0),
        )
    return known[id(node)]


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _walk(node: yaml.Node) -> Iterator[yaml.Node]:
    yield node
    for child in _children(node):
        yield from _walk(child)


def _scalar(kind: str, text: str) -> Any:
    match kind:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text) if len(text) < 20 else text
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        case _:
            return text
