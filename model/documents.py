"""JSON documents as frozen dataclasses, every value checked against the type of its field.

A document is what ``dataclasses.asdict`` and JSON make of a record: tuples are lists, nested records
are objects. Fields with a default may be missing, so that documents of older versions are read.
"""

from collections.abc import Mapping
from dataclasses import is_dataclass
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


def parse(kind: type[Record], document: Any) -> Record:
    """Build a record. Raises ValueError naming the value that does not fit, TypeError if one is missing."""
    if not isinstance(document, dict):
        raise ValueError(f"{document!r:.60} is not an object")
    hints = get_type_hints(kind)
    unknown = sorted(document.keys() - hints.keys())
    if unknown:
        raise ValueError(f"unknown: {', '.join(unknown)}")
    return kind(**{name: fitted(hints[name], value, name) for name, value in document.items()})


def fitted(hint: Any, value: Any, name: str) -> Any:
    """``value`` as the type ``hint`` wants it; raises as ``parse``.

    There is one case for each kind of type that the records use.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if is_dataclass(hint):
        return parse(cast(type[Any], hint), value)
    if origin in (Union, UnionType):
        return _fitted_to_one_of(inner, value, name)
    if origin is tuple and isinstance(value, list):
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        if len(kinds) == len(value):
            return tuple(fitted(kind, item, name) for kind, item in zip(kinds, value, strict=True))
    if origin is Mapping and isinstance(value, dict):
        return {key: fitted(inner[1], item, name) for key, item in value.items()}
    # JSON writes 1.0 as 1 where another program wrote it; bool is a subclass of int, hence `type`.
    if type(value) is hint or (hint is float and type(value) is int):
        return value
    raise ValueError(f"{name} is {value!r:.60}")


def _fitted_to_one_of(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    (kind,) = (kind for kind in kinds if kind is not type(None))  # the records have `X | None` only
    return fitted(kind, value, name)
