"""config.json: what is written is read back, and what was edited by hand is refused, never followed."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli import main
from model.loading import load_network
from model.run_folder import read_config, write_config
from model.settings import Settings
from pipeline.errors import IntegrityError

ERROR_LINE = r"[^\n]+/config\.json: (config-changed|config-damaged): [^\n]+ → [^\n]+\n"


@pytest.fixture
def run(make_store: Callable, make_split: Callable, make_run: Callable) -> Path:
    store = make_store(per_class=1)
    return make_run(store, make_split(store))


def edit(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((run / "config.json").read_text())
    change(document)
    (run / "config.json").write_text(json.dumps(document))


def unhashed(document: dict[str, Any]) -> None:
    """As version 0.1.0 wrote it."""
    document["format"] = 1
    document.pop("sha256", None)


def test_what_is_written_is_read_back(run: Path) -> None:
    config = read_config(run)
    settings = Settings(strategy="pt", init="a", angles=(1.0, 2.5), freeze_backbone=True, seed=-3)
    changed = replace(config, settings=settings, versions={"keras": "3"}, init_sha256="0" * 64)
    write_config(run, changed)
    assert read_config(run) == changed != config


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "classes reversed": lambda document: document["data"]["classes"].reverse(),
    "another window": lambda document: document["data"]["recipe"].update(window=[-900.0, 400.0]),
    "another network": lambda document: document["settings"].update(model="viptt-net"),
    "no hash": lambda document: document.pop("sha256"),
    "text for a shape": lambda document: document["data"].update(shape="70x224x224"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_configuration_edited_by_hand_is_refused(run: Path, name: str) -> None:
    edit(run, EDITS[name])
    result = CliRunner().invoke(main, ["predict", str(run), str(run)])
    assert (result.exit_code, result.stdout) == (4, "")
    assert re.fullmatch(ERROR_LINE, result.stderr), result.stderr


def test_the_same_content_in_another_layout_is_accepted(run: Path) -> None:
    before = read_config(run)
    edit(run, lambda document: None)
    assert read_config(run) == before


def test_a_configuration_of_version_0_1_0_is_read(run: Path) -> None:
    before = read_config(run)
    edit(run, unhashed)
    assert read_config(run) == before


def leaves(document: Any, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """The place of every value in a document."""
    yield path
    inner = dict(enumerate(document)) if isinstance(document, list) else document
    for key, value in inner.items() if isinstance(inner, dict) else ():
        yield from leaves(value, *path, key)


@pytest.mark.parametrize("wrong", ["text", 1e9, None, [], {}, {"a": 1}, [["x"]], True])
def test_wrong_types_without_a_hash_are_damage_wherever_they_stand(run: Path, wrong: object) -> None:
    """Whatever is put in place of a value is refused as damage, or is a value that the field may have."""
    edit(run, unhashed)
    text = (run / "config.json").read_text()
    refused = 0
    for *parents, last in filter(None, leaves(json.loads(text))):
        document = json.loads(text)
        place = document
        for key in parents:
            place = place[key]
        place[last] = wrong
        (run / "config.json").write_text(json.dumps(document))
        code = code_of(run)
        assert code in ("", "config-damaged")
        refused += bool(code)
    assert refused > 20


def code_of(run: Path) -> str:
    try:
        read_config(run)
    except IntegrityError as error:
        return error.problems[0].code
    return ""


def test_a_recipe_of_text_is_refused_before_a_network_is_built(run: Path) -> None:
    edit(run, unhashed)
    edit(run, lambda document: document["data"].update(shape=["4", "32", "32", "1"]))
    with pytest.raises(IntegrityError, match=r"config-damaged: .*shape"):
        load_network(run)
