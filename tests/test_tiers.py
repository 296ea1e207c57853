"""The tiers of the tests: what is marked ``unit`` needs neither TensorFlow nor another process.

While a unit test runs, ``conftest.py`` refuses both; here the same is seen in what its file imports, itself
or through a helper beside it.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = {path.stem: path for path in HERE.rglob("*.py") if path.name != "conftest.py"}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}
HEAVY = {
    "cli",
    "dask",
    "distributed",
    "keras",
    "model",
    "multiprocessing",
    "psutil",
    "subprocess",
    "tensorflow",
}
# Rooms of the pipeline that run builds, whose default is a pool of processes.
BUILDING = {"pipeline.build", "pipeline.check", "pipeline.demo", "pipeline.inputs", "pipeline.status"}
FORKING_FIXTURES = {"as_nobody"}


def is_unit(tree: ast.Module) -> bool:
    assignments = [node for node in tree.body if isinstance(node, ast.Assign)]
    return "pytestmark = pytest.mark.unit" in map(ast.unparse, assignments)


UNIT = sorted(name for name, tree in TREES.items() if is_unit(tree))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def too_heavy(tree: ast.AST) -> set[str]:
    """What a unit test may not use, of what this file and the helpers that it imports do use."""
    modules = set(imported(tree))
    helpers = [too_heavy(TREES[module]) for module in modules & set(TREES)]
    taken = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)} & FORKING_FIXTURES
    rooms = {room for room in BUILDING if any(f"{module}.".startswith(f"{room}.") for module in modules)}
    return ({module.split(".")[0] for module in modules} & HEAVY).union(rooms, taken, *helpers)


@pytest.mark.parametrize("name", UNIT)
def test_a_unit_test_imports_no_framework_and_starts_no_process(name: str) -> None:
    assert too_heavy(TREES[name]) == set()


def test_names_of_test_files_are_different() -> None:
    """Files here import each other by name."""
    assert len(FILES) == len([path for path in HERE.rglob("*.py") if path.name != "conftest.py"])


def test_most_of_the_pipeline_has_unit_tests() -> None:
    beside = [path for path in FILES.values() if path.parent.name == "pipeline" and path.stem[:5] == "test_"]
    assert len(UNIT) > len(beside) / 3


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess",
        "from multiprocessing import Process",
        "def test():\n    from model.network import small_net",
        "from pipeline import build",
        "from pipeline.build.plan import make_plan",
        "import test_tiers",
        "def test(as_nobody): ...",
    ],
)
def test_what_a_unit_test_may_not_do_is_seen(code: str) -> None:
    assert too_heavy(ast.parse(code))


BODIES = """
def test_fork():
    os.fork() or os._exit(0)
def test_command():
    subprocess.run(["true"])
def test_framework():
    __import__("keras")
def test_light():
    __import__("colorsys")
"""


def test_it_is_refused_while_a_unit_test_runs(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((HERE / "conftest.py").read_text("utf-8"), "utf-8")
    (tmp_path / "keras.py").touch()
    for order, mark in enumerate(("unit", "slow")):  # later the framework is imported already
        head = f"import os, subprocess, pytest\npytestmark = pytest.mark.{mark}\n"
        (tmp_path / f"test_{order}_{mark}.py").write_text(head + BODIES, "utf-8")
    options = ["-q", "-rf", "-p", "no:cacheprovider", "-W", "ignore", "--rootdir", tmp_path]
    command = [sys.executable, "-m", "pytest", *options, tmp_path]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    failed = re.findall(r"^FAILED .*test_\d_(\w+)\.py::test_(\w+)", done.stdout, re.MULTILINE)
    assert sorted(failed) == [("unit", "command"), ("unit", "fork"), ("unit", "framework")], done.stdout
    assert "5 passed" in done.stdout
