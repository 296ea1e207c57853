"""Settings in a file: what may stand in it, what wins, what is refused with its line."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from cli import main
from model.config_file import PRESETS, given_settings, shown
from model.run_folder import read_config
from model.settings import Settings, Window
from pipeline.errors import ConfigError

ERROR_LINES = r"([^\n]+: [a-z0-9-]+: [^\n]+ → [^\n]+\n)+"


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "mine.yaml").write_text(text)
        return str(tmp_path / "mine.yaml")

    return write


@pytest.fixture
def viptt(make_store: Callable, make_split: Callable, make_catalog: Callable) -> Callable[..., Result]:
    store = make_store()
    catalog = make_catalog(ct=(store, make_split(store)))

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(main, [*map(str, arguments), "--catalog", str(catalog)])

    return run


# --- what is read -------------------------------------------------------------------------------


def test_every_kind_of_value(file: Callable[[str], str]) -> None:
    text = """
model: sononet-3d
learning_rate: 1e-4
unfreeze: null
class_weights: false
window: {length: 7, labels: last}
angles: [0, 5.5]
augmentation:
  - ultrasound
  - RandomFlip: {mode: horizontal}
  - slices:
"""
    found = Settings(**given_settings(config=file(text)))
    assert (found.model, found.learning_rate, found.class_weights) == ("sononet-3d", 1e-4, False)
    assert found.window == Window(length=7, stride=5, labels="last")
    assert found.angles == (0, 5.5)
    assert found.augmentation == ({"ultrasound": {}}, {"RandomFlip": {"mode": "horizontal"}}, {"slices": {}})


def test_options_win_over_the_file_and_what_is_left_out_stays_a_default(file: Callable[[str], str]) -> None:
    given = given_settings(config=file("epochs: 3\nbatch_size: 4\n"), epochs=7, seed=None)
    assert given == {"epochs": 7, "batch_size": 4}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_file_like_any_other(name: str) -> None:
    assert Settings(**given_settings(config=name)) == Settings(**given_settings(config=str(PRESETS[name])))


def test_the_presets_say_what_the_papers_did() -> None:
    clips = Settings(**given_settings(config="sononet-2025"))
    assert clips.window == Window(5, 5, "same")
    assert (clips.optimizer, clips.learning_rate, clips.sampler) == ("adam", 1e-4, "weighted")
    assert (clips.plateau_factor, clips.plateau_threshold_mode) == (0.1, "rel")
    pictures = Settings(**given_settings(config="sononet-2025-2d"))
    assert (pictures.plateau_factor, pictures.plateau_threshold_mode) == (0.7, "abs")
    slices = Settings(**given_settings(config="covidnet-ct-id-2022"))
    assert (slices.model, slices.unfreeze, slices.epochs, slices.batch_size) == ("densenet201", 4, 10, 64)
    assert slices.stop_patience is None
    old, usual = Settings(**given_settings(config="viptt-2021")), Settings()
    differ = {name for name, value in asdict(old).items() if value != asdict(usual)[name]}
    assert differ == {"angles"}  # the defaults are the paper's


def test_the_presets_come_with_the_package() -> None:
    """As setuptools would put them into a wheel: by the patterns of pyproject.toml."""
    code = """
import tomllib
from setuptools import Distribution
from setuptools.command.build_py import build_py

tools = tomllib.load(open("pyproject.toml", "rb"))["tool"]["setuptools"]
build = build_py(Distribution({"packages": ["model"], "package_data": tools["package-data"]}))
build.finalize_options()
print(build.data_files)
"""
    call, root = [sys.executable, "-c", code], Path(__file__).parents[2]
    done = subprocess.run(call, capture_output=True, text=True, cwd=root, check=True)
    assert all(f"presets/{name}.yaml" in done.stdout for name in PRESETS)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "epochs: 1\nlearnin_rate: 1",
            r"mine.yaml:2 \(learnin_rate\): unknown-key: .*you mean `learning_rate`",
        ),
        ("epochs: many", r"mine.yaml:1 \(epochs\): bad-value: it is 'many', not a whole number"),
        ("epochs: true", r"mine.yaml:1 \(epochs\): bad-value: it is True, not a whole number"),
        ("epochs: 1.5", "not a whole number"),
        ("learning_rate: fast", "not a number"),
        ("remat: 1", "not true or false"),
        ("unfreeze: all", "not a whole number or null"),
        ("angles: 3", "not a list of numbers"),
        ("window:\n  lenght: 3", r"mine.yaml:2 \(window.lenght\): unknown-key: .*`length`"),
        ("window:\n  length: 0", r"mine.yaml:2 \(window.length\): bad-value: 0 is less than 1"),
        ("window: 5", "not a map of length, stride, labels or null"),
        ("augmentation: ultrasound", "not a list of"),
        ("seed: 1\noptimizer: lion", r"mine.yaml:2 \(optimizer\): unknown-name: there is no 'lion'"),
        ("plateau_factor: 1.0", r"mine.yaml:1 \(plateau_factor\): bad-value"),
        ("epochs: 1\nepochs: 2", "duplicate-key"),
        ("- epochs", "not-a-config: the document is not a map of settings"),
        ("epochs: [", "not-yaml"),
        ("a: !!python/object:os.system 1", "tag"),
    ],
)
def test_one_line_says_what_is_wrong_and_where(file: Callable[[str], str], text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        given_settings(config=file(text))
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert re.search(expected, said), said


def test_all_faults_are_told_at_once(file: Callable[[str], str]) -> None:
    with pytest.raises(ConfigError) as caught:
        given_settings(config=file("epoch: 1\nbatch_size: x\nwindow: {stride: a}"))
    assert [problem.where.rpartition(":")[2] for problem in caught.value.problems] == [
        "1 (epoch)",
        "2 (batch_size)",
        "3 (window.stride)",
    ]


def test_a_value_of_an_option_is_not_blamed_on_the_file(file: Callable[[str], str]) -> None:
    with pytest.raises(ConfigError, match=r"^--epochs: bad-value"):
        given_settings(config=file("epochs: 3"), epochs=0)


def test_no_such_file_or_preset() -> None:
    with pytest.raises(ConfigError, match=r"nowhere: no-config: .*sononet-2025"):
        given_settings(config="nowhere")


# --- the command --------------------------------------------------------------------------------


def test_what_is_shown_is_a_file_that_gives_the_same(viptt: Callable[..., Result], file: Callable) -> None:
    found = viptt("train", "ct", "--config", "sononet-2025", "--epochs", "3", "--show-config")
    assert found.exit_code == 0, found.stderr
    document = yaml.safe_load(found.stdout)
    assert set(document) == {field.name for field in fields(Settings)}
    assert (document["epochs"], document["model"], document["seed"]) == (3, "sononet-3d", 0)
    again = viptt("train", "ct", "--config", file(found.stdout), "--show-config")
    assert again.stdout == found.stdout
    as_json = viptt("train", "ct", "--config", "sononet-2025", "--epochs", "3", "--show-config", "--json")
    assert json.loads(as_json.stdout) == document


def test_the_defaults_survive_a_file(file: Callable[[str], str]) -> None:
    assert Settings(**given_settings(config=file(shown(Settings())[1]))) == Settings()


@pytest.mark.slow
def test_a_training_by_a_file_and_the_key_of_its_run(
    viptt: Callable[..., Result], file: Callable[[str], str], tmp_path: Path
) -> None:
    text = "model: viptt-net-small\nepochs: 5\noptimizer: adam\nweight_decay: 1e-3\nsampler: oversample\n"
    result = viptt("train", "ct", "--config", file(text), "--epochs", "1", "--run", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    written = json.loads((tmp_path / "run/config.json").read_text())["settings"]
    assert (written["epochs"], written["weight_decay"], written["sampler"]) == (1, 1e-3, "oversample")
    # The keys of a file are those of a run: what a run wrote is a file that gives the same settings.
    again = file(json.dumps(written))
    assert Settings(**given_settings(config=again)) == read_config(tmp_path / "run").settings


def test_a_wrong_file_ends_the_command_with_2_before_any_work(
    viptt: Callable[..., Result], file: Callable[[str], str], tmp_path: Path
) -> None:
    path = file("epoch: 1\nbatch_size: none\n")
    result = viptt("train", "ct", "--config", path, "--run", tmp_path / "run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(ERROR_LINES, result.stderr)
    assert len(result.stderr.splitlines()) == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("epochs: 1\nmodel: viptt-net-small\nunfreeze: 2", "needless-setting"),
        ("model: sononet-2d\nepochs: 1\ntemporal: gru", "needless-setting"),
        ("model: sononet-3d\nwindow: {length: 5}", "no-pictures"),
        ("model: sononet-2d", "other-shape"),
        ("model: resnet50", "other-shape"),
        ("model: viptt-net\nweights: none\nbackbone: resnet5", "unknown-name"),
        ("epochs: 1\nmodel: viptt-net-small\naugmentation: [RandomFlop]", "unknown-name"),
        ("epochs: 1\nmodel: viptt-net-small\naugmentation: [RandomFlip: {turns: 1}]", "bad-value"),
        ("epochs: 1\nmodel: viptt-net-small\naugmentation: [RandomHue: {factor: 0.2}]", "bad-value"),
        ("epochs: 1\nmodel: viptt-net-small\naugmentation: [Resizing: {height: 9, width: 9}]", "bad-value"),
        ("epochs: 1\nmodel: viptt-net-small\naugmentation: [slices: {rotation: 500}]", "bad-value"),
        ("epochs: 1\nmodel: viptt-net-small\njit_compile: true\naugmentation: [slices]", "bad-value"),
        ("epochs: 1\nmodel: viptt-net-small\naugmentation: [ultrasound: {turns: 5}]", "bad-value"),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_run_is_made(
    viptt: Callable[..., Result], file: Callable[[str], str], tmp_path: Path, text: str, code: str
) -> None:
    result = viptt("train", "ct", "--config", file(text), "--run", tmp_path / "run")
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert re.fullmatch(rf"[^\n]+: {code}: [^\n]+ → [^\n]+\n", result.stderr), result.stderr
    assert not (tmp_path / "run").exists()
