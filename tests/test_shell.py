"""What a shell sees of `viptt`: completion of dataset names, and other programs' packages in its way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from cli import main

ROOT = Path(__file__).resolve().parents[1]
DATASETS = ["imageclef_tb", "ucf50", "ultrasound", "covidx_ct"]


def completions(*typed: str) -> list[str]:
    """What is offered for the last word."""
    shell = ShellComplete(main, {}, "viptt", "_VIPTT_COMPLETE")
    return [item.value for item in shell.get_completions(list(typed[:-1]), typed[-1])]


def test_datasets_are_offered_wherever_one_is_named(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    for command in ("check", "build", "status", "verify", "split", "report", "features", "train"):
        assert completions(command, "") == DATASETS, command
    assert completions("build", "im") == ["imageclef_tb"]
    assert completions("build", "ucf50", "") == [name for name in DATASETS if name != "ucf50"]
    assert completions("evaluate", "runs/x", "uc") == ["ucf50"]


def test_the_catalog_may_be_given_before_or_after_the_command(tmp_path, ct_dataset, monkeypatch) -> None:
    catalog = str(ct_dataset(tmp_path, scans=1))
    assert completions("build", "--catalog", catalog, "") == ["ct"]
    assert completions("--catalog", catalog, "build", "") == ["ct"]
    monkeypatch.setenv("VIPTT_CATALOG", catalog)
    assert completions("build", "") == ["ct"]


@pytest.mark.parametrize("text", [None, "version: 1\ndatasets: {a: {}}\n", "[", ""])
def test_without_a_good_catalog_it_is_silent(tmp_path, monkeypatch, capfd, text) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("data_catalog.yaml").write_text(text)
    assert completions("build", "") == []
    assert capfd.readouterr() == ("", "")


def test_no_command_at_all_shows_the_help() -> None:
    result = run([sys.executable, "-c", "from cli import main; main()"], ROOT)
    assert result.returncode == 2
    assert "Commands:\n" in result.stderr


# --- packages of the same name ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model", "pipeline"])
@pytest.mark.parametrize("form", ["{}.py", "{}/__init__.py"])
def test_a_foreign_package_is_named_in_one_line(tmp_path, name, form) -> None:
    file = tmp_path / form.format(name)
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine = 1\n")
    result = run([sys.executable, "-c", "from cli import main; main()", "status"], tmp_path, ROOT)
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("viptt: foreign-package: ")
    assert f"'{name}" in line
    assert "environment of its own" in line


def test_a_missing_library_is_named_as_such(tmp_path) -> None:
    (tmp_path / "model.py").write_text("import colours\n")
    result = run([sys.executable, "-c", "from cli import main; main()", "status"], tmp_path, ROOT)
    assert result.returncode == 1
    assert result.stderr.endswith("ModuleNotFoundError: No module named 'colours'\n")


def run(command: list[str], *path: Path) -> subprocess.CompletedProcess[str]:
    """A command in another folder, with these folders searched first for modules."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONSAFEPATH": "1"}
    return subprocess.run(command, env=environment, cwd=path[0], capture_output=True, text=True, check=False)
