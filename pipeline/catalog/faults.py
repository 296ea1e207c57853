"""What pydantic finds wrong in a catalog, as problems with line and path in the document."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.catalog.schema import LABELS, Catalog, Dataset, Groups, SplitPlan
from pipeline.errors import Code, Problem
from pipeline.nearest import suggestion
from pipeline.readers import SOURCE_TYPES
from pipeline.recipe import Recipe
from pipeline.yaml_nodes import FIX, line_of


def catalog_problems(file: Path, root: Any, error: ValidationError) -> list[Problem]:
    """Every fault that pydantic found in a catalog, one problem each."""
    faults = error.errors(include_url=False)
    # A default that depends on a key fails only because that key is wrong, which is a fault of its own.
    own = [fault for fault in faults if fault["type"] != "default_factory_not_called"]
    return [_problem(file, root, fault) for fault in own]


def _problem(file: Path, root: Any, fault: Any) -> Problem:
    location = _document_path(fault["loc"])
    where = f"{file}:{line_of(root, location)} ({'.'.join(map(str, location)) or 'document'})"
    match fault["type"]:
        case "extra_forbidden":
            known = _known_keys(fault["loc"])
            return Problem(
                where,
                Code.UNKNOWN_KEY,
                f"there is no key `{location[-1]}` here",
                suggestion(location[-1], known),
            )
        case "missing":
            last = fault["loc"][-1]
            return Problem(
                where,
                Code.MISSING_KEY,
                f"`{last}` is missing" if isinstance(last, str) else "too few values",
                FIX,
            )
        case "union_tag_invalid" | "union_tag_not_found":
            return _unknown_type(where, fault)
        case "undefined_variable":
            remedy = "define it, or write the path out; `$$` is a dollar sign"
            return Problem(where, Code.UNDEFINED_VARIABLE, fault["msg"], remedy)
        case "not_a_local_file":
            remedy = "fetch it, and give its path on this machine"
            return Problem(where, Code.NOT_A_LOCAL_FILE, f"{fault['input']} is {fault['msg']}", remedy)
        case _:
            given = json.dumps(fault["input"], default=str, ensure_ascii=False)
            reason = f"{fault['msg'].removeprefix('Value error, ')}, not {given[:80]}"
            return Problem(where, Code.BAD_VALUE, reason, FIX)


def _unknown_type(where: str, fault: Any) -> Problem:
    given = str(fault["ctx"].get("tag", ""))
    reason = f"the type of the sources is {f'`{given}`, which is not known' if given else 'missing'}"
    return Problem(where, Code.UNKNOWN_TYPE, reason, suggestion(given, list(SOURCE_TYPES)))


def _document_path(loc: tuple[Any, ...]) -> list[str | int]:
    """pydantic's location as a path in the document.

    pydantic also names the chosen member of a union, after a dataset's name and after ``labels``.
    """
    members = {2, 4} if loc[3:4] == ("labels",) else {2}
    return [step for position, step in enumerate(loc) if position not in members and step != "[key]"]


def _known_keys(loc: tuple[Any, ...]) -> list[str]:
    """The keys that are allowed beside the one at this location."""
    parents: dict[Any, type[BaseModel]] = {
        **dict.fromkeys(SOURCE_TYPES, Dataset),
        "recipe": SOURCE_TYPES[loc[2]].recipe if loc[2:3] and loc[2] in SOURCE_TYPES else Recipe,
        "split": SplitPlan,
        **LABELS,
        "groups": Groups,
    }
    model = parents[loc[-2]] if len(loc) > 1 else Catalog
    return [name for name in model.model_fields if name != "name"]
