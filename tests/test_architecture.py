"""The rules of the house, executed: who imports whom, where a library lives, what is never called."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("model/**/*.py"), ROOT / "cli.py"])
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in SOURCES}
NAMES = list(TREES)

HOMES = {
    "yaml": {"pipeline/yaml_nodes.py"},
    "pydantic": {"pipeline/catalog.py"},
    "nibabel": {"pipeline/readers/nifti.py", "pipeline/demo.py"},
    "isal": {"pipeline/readers/nifti.py"},
    "cv2": {"pipeline/readers/video.py", "pipeline/demo.py"},
    "scipy": {"pipeline/siz.py", "pipeline/demo.py"},
    "zarr": {"pipeline/store.py"},
    "google_crc32c": {"pipeline/store.py"},
    "dask": {"pipeline/build.py"},
    "distributed": {"pipeline/build.py"},
    "threadpoolctl": {"pipeline/build.py"},
    "click": {"cli.py", "pipeline/console.py", "model/options.py"},
    "h5py": {"model/weights.py"},
    "matplotlib": {"model/plots.py"},
    "tf2onnx": {"model/export.py"},
}
# Signatures that are promised to users with an option by position.
POSITIONAL_OPTIONS = {
    ("pipeline/draw.py", "assign"),
    ("model/network.py", "viptt_net"),
    ("model/network.py", "small_net"),
}
BANNED_CALLS = {"eval", "exec", "load_model", "to_zarr", "extractall", "full_load", "unsafe_load"}
BANNED_KEYWORDS = {("shell", True), ("overwrite", True), ("allow_pickle", True)}


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def top_level_imports(tree: ast.Module) -> set[str]:
    """What is imported when the module is: not inside a function, not for type checkers alone."""
    nodes = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return {name.split(".")[0] for node in nodes for name in imports(node)}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Functions, but not methods: where there is a class, a library dictates the signatures."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield node
        if not isinstance(node, ast.ClassDef):
            yield from functions(node)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("pipeline/")])
def test_pipeline_never_imports_the_model_or_its_framework(name: str) -> None:
    assert not {module.split(".")[0] for module in imports(TREES[name])} & {
        "tensorflow",
        "keras",
        "model",
        "cli",
    }


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("model/")])
def test_model_sees_only_the_store_the_split_and_the_errors(name: str) -> None:
    modules = set(imports(TREES[name]))
    assert not {module.split(".")[0] for module in modules} & {"dask", "distributed", "nibabel", "cv2", "cli"}
    allowed = {"pipeline", "pipeline.store", "pipeline.split", "pipeline.errors"}
    assert {module for module in modules if module.split(".")[0] == "pipeline"} <= allowed


@pytest.mark.parametrize("library", HOMES)
def test_each_library_has_one_home(library: str) -> None:
    users = {
        name for name, tree in TREES.items() if library in {module.split(".")[0] for module in imports(tree)}
    }
    assert users <= HOMES[library]


def test_network_is_neutral_to_the_backend() -> None:
    for name in ("model/network.py", "model/augment.py"):
        if name in TREES:
            assert "tensorflow" not in {module.split(".")[0] for module in imports(TREES[name])}


def test_command_line_imports_nothing_heavy_early() -> None:
    outside = top_level_imports(TREES["cli.py"]) - set(sys.stdlib_module_names)
    assert outside == {"click", "model", "pipeline"}  # of model, what needs no TensorFlow: see below


@pytest.mark.parametrize("name", NAMES)
def test_options_are_keyword_only(name: str) -> None:
    for function in functions(TREES[name]):
        if (name, function.name) not in POSITIONAL_OPTIONS:
            assert not function.args.defaults, f"{function.name} takes an option by position"


@pytest.mark.parametrize("name", NAMES)
def test_public_functions_have_docstrings(name: str) -> None:
    for function in TREES[name].body:
        if isinstance(function, ast.FunctionDef | ast.ClassDef) and not function.name.startswith("_"):
            assert ast.get_docstring(function), function.name


@pytest.mark.parametrize("name", NAMES)
def test_nothing_dangerous_is_called(name: str) -> None:
    assert "pickle" not in set(imports(TREES[name]))
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert called not in BANNED_CALLS, f"{called} in line {node.lineno}"
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                assert (keyword.arg, value) not in BANNED_KEYWORDS, f"line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"bare except in line {node.lineno}"


def test_no_file_without_a_subject() -> None:
    assert not {path.name for path in SOURCES} & {"utils.py", "common.py", "helpers.py", "misc.py"}


def test_every_command_stands_in_the_readme() -> None:
    from cli import main

    readme = (ROOT / "README.md").read_text()
    assert not [name for name in main.commands if f"viptt {name}" not in readme]


@pytest.mark.parametrize(
    "code",
    [
        "import pipeline, pipeline.build, pipeline.split",
        "import cli",
        "import model.run_folder, model.compare",
    ],
)
def test_importing_leaves_the_framework_alone(code: str) -> None:
    check = f"{code}; import sys; sys.exit(bool({{'tensorflow', 'keras'}} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT)
