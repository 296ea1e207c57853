"""A training's settings from a YAML file, or from one of the presets that come with viptt.

A file is a map of some of the settings, under the names and in the form that they have in a run's
``config.json``. It is read as strictly as a catalog: a key that is not known, or a value of another
type, is an error with its line. Options of the command line win over the file, the file over the
defaults that fit the recipe of a store.

Importing this module needs no TensorFlow.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from model.documents import fitted
from model.settings import Settings
from pipeline.errors import Code, ConfigError, Problem
from pipeline.nearest import suggestion
from pipeline.yaml_nodes import Kind, line_of, plain, read_yaml, to_yaml

PRESETS = {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.yaml"))}
FIX = "correct it; `viptt train DATASET --show-config` prints all settings"
KIND = Kind(
    name="a file of settings",
    form="a map of settings",
    missing=Code.NO_CONFIG,
    foreign=Code.NOT_A_CONFIG,
    find=f"give the path of a YAML file, or one of: {', '.join(PRESETS)}",
    fix=FIX,
)
TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "null"}


def given_settings(*, config: str | None = None, **options: Any) -> dict[str, Any]:
    """What the user gives: a file or a preset, and over it the options that are not None.

    Raises ConfigError with every fault of the file, each with its line, and as ``Settings`` does.
    """
    options = {name: value for name, value in options.items() if value is not None}
    if config is None:
        Settings(**options)
        return options
    file = PRESETS.get(config, Path(config))
    root = read_yaml(file, kind=KIND)
    document = _with_named_layers(plain(root))
    problems = list(_problems(Settings, document, []))
    if problems:
        raise ConfigError(*(_problem(file, root, *problem) for problem in problems))
    hints = get_type_hints(Settings)
    try:
        given = {name: fitted(hints[name], value, name) for name, value in document.items()}
        Settings(**{**given, **options})
    except ConfigError as error:
        raise ConfigError(*(_located(problem, file, root, options) for problem in error.problems)) from None
    return {**given, **options}


def shown(settings: Settings) -> tuple[dict[str, Any], str]:
    """Settings as a JSON document, and as a file that gives the same ones."""
    document = {name: _listed(value) for name, value in asdict(settings).items()}
    return document, to_yaml(document).removesuffix("\n")


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _with_named_layers(document: dict[str, Any]) -> dict[str, Any]:
    """A layer without arguments may be written as its name alone."""
    layers = document.get("augmentation")
    if not isinstance(layers, list):
        return document
    full = [_with_arguments({item: {}} if isinstance(item, str) else item) for item in layers]
    return {**document, "augmentation": full}


def _with_arguments(layer: Any) -> Any:
    if not isinstance(layer, dict):
        return layer
    return {name: {} if given is None else given for name, given in layer.items()}


# --- what is wrong ------------------------------------------------------------------------------

Keys = list[str | int]


def _problems(kind: type[Any], document: Any, above: Keys) -> Iterator[tuple[Keys, str, str, str]]:
    """Path, code, reason and remedy of each key or value that does not fit a record."""
    hints = get_type_hints(kind)
    for name, value in document.items():
        path = [*above, name]
        if name not in hints:
            known = [field.name for field in fields(kind)]
            yield path, "unknown-key", f"there is no setting `{name}`", suggestion(name, known)
            continue
        inner = _record(hints[name])
        if inner and isinstance(value, dict):
            yield from _problems(inner, value, path)
            continue
        try:
            fitted(hints[name], value, name)
        except (ValueError, TypeError):
            yield path, "bad-value", f"it is {value!r:.60}, not {_text(hints[name])}", FIX


def _record(hint: Any) -> type[Any] | None:
    """The record that a value of this type is, or may be."""
    kinds: tuple[Any, ...] = (hint, *get_args(hint))
    return next((kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)), None)


def _text(hint: Any) -> str:
    """A type in words."""
    if is_dataclass(hint):
        return "a map of " + ", ".join(field.name for field in fields(hint))
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        return "a list of numbers" if inner is float else "a list of `- NAME` or `- NAME: {ARGUMENT: VALUE}`"
    return TYPES.get(hint) or " or ".join(map(_text, get_args(hint)))


def _problem(file: Path, root: Any, path: Keys, code: str, reason: str, remedy: str) -> Problem:
    return Problem(f"{file}:{line_of(root, path)} ({'.'.join(map(str, path))})", code, reason, remedy)


def _located(problem: Problem, file: Path, root: Any, options: Mapping[str, Any]) -> Problem:
    """The problem with its line, if it is about a setting that the file decides."""
    path: Keys = [part.replace("-", "_") for part in problem.where.removeprefix("--").split(".")]
    if path[0] in options or path[0] not in plain(root):
        return problem
    return _problem(file, root, path, problem.code, problem.reason, problem.remedy)
