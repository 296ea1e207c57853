"""The rules of the house, executed: who imports whom, where a library lives, what is never called."""

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import errors
from pipeline.codes import Code, reason_codes_page

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("model/**/*.py"), ROOT / "cli.py"])
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in SOURCES}
NAMES = list(TREES)
ROOMS = [name for name in NAMES if name.startswith("pipeline/") and name != "pipeline/__init__.py"]

HOMES = {
    "yaml": {"pipeline/yaml_nodes.py"},
    "pydantic": {
        "pipeline/recipe.py",
        "pipeline/catalog/schema.py",
        "pipeline/catalog/load.py",
        "pipeline/catalog/faults.py",
        "pipeline/readers/__init__.py",
    },
    "regex": {"pipeline/catalog/patterns.py"},
    "nibabel": {"pipeline/readers/nifti.py", "pipeline/readers/orientation.py", "pipeline/demo/scans.py"},
    "isal": {"pipeline/readers/nifti.py", "pipeline/readers/picture_file.py"},
    "av": {
        "pipeline/readers/video.py",
        "pipeline/readers/video_frames.py",
        "pipeline/doctor/codecs.py",
    },
    "cv2": {
        "pipeline/readers/picture_file.py",
        "pipeline/readers/video_frames.py",
        "pipeline/crop.py",
        "pipeline/half.py",
        "pipeline/ssim.py",
        "pipeline/demo/clips.py",
        "pipeline/demo/gray_pictures.py",
        "pipeline/report/pictures.py",
    },
    "jinja2": {"pipeline/pages/environment.py"},
    "scipy": {"pipeline/siz.py", "model/paired.py"},
    "zarr": {"pipeline/store/layout.py", "pipeline/store/open.py"},
    "google_crc32c": {"pipeline/store/chunks.py"},
    "dask": {"pipeline/build/pools.py", "pipeline/build/options.py"},
    "distributed": {
        "pipeline/build/batch_worker.py",
        "pipeline/build/options.py",
        "pipeline/build/pools.py",
    },
    "threadpoolctl": {"pipeline/build/execute.py", "pipeline/build/pools.py"},
    "click": {"cli.py", "pipeline/console.py", "pipeline/options.py", "model/options.py"},
    "h5py": {"model/weights.py"},
    "pickletools": {"model/pickled.py"},
    "matplotlib": {"model/plots.py", "model/score_plots.py", "model/timeline.py"},
    "tf2onnx": {"model/export.py"},
}
# The rooms of the pipeline, each with what it may import of the others: arrows point down.
ARRAYS = {"antialias", "banded", "crop", "depth", "gray", "half", "select", "siz", "ssim", "statistics"}
PRESETS = {"preset_2021", "preset_covidnet_ct_id", "preset_sononet"}
GROUND = {"codes", "errors", "escape", "files", "nearest", "signals", "yaml_nodes"}
BELOW = {
    **dict.fromkeys(ARRAYS, ARRAYS),
    **dict.fromkeys(GROUND, GROUND),
    "recipe": GROUND,
    "scale": ARRAYS | GROUND | {"recipe"},
    **dict.fromkeys(PRESETS, ARRAYS | {"recipe"}),
    "readers": ARRAYS | GROUND | PRESETS | {"frames_tree", "recipe", "scale"},
    "pictures": ARRAYS | GROUND | PRESETS | {"readers", "recipe"},
    "convert": ARRAYS | GROUND | {"pictures", "readers", "recipe"},
    "store": GROUND,
    "freshness": GROUND | {"store"},
    "inputs": GROUND | {"build", "catalog", "readers", "recipe", "sources", "store"},
    "split": GROUND | {"catalog", "freshness", "sources", "store"},
    "catalog": GROUND | {"readers", "recipe", "store"},
    "sources": GROUND | {"catalog", "covidx", "frames_tree", "readers"},
    "build": GROUND | {"catalog", "convert", "readers", "recipe", "sources", "store"},
    "status": GROUND | {"build", "catalog", "freshness", "readers", "sources", "store"},
    "check": GROUND | {"build", "catalog", "readers", "sources"},
    "covidx": GROUND,
    "frames_tree": GROUND,
    "console": GROUND,
    "options": GROUND | {"catalog", "console"},
    "demo": GROUND | {"readers"},
    "doctor": GROUND | {"catalog", "readers"},
    "guess": GROUND | {"catalog", "readers", "sources"},
    "pages": GROUND,
    "report": GROUND | {"catalog", "freshness", "pages", "readers", "sources", "split", "store"},
}
MAX_FUNCTION_LINES, MAX_FILE_LINES, MEDIAN_FUNCTION_LINES = 40, 400, 10
MAX_COMMAND_LINES = 450  # of cli.py: options, one call, one rendering that lives beside the result
# Signatures that are promised to users with an option by position.
POSITIONAL_OPTIONS = {
    ("pipeline/split/assignment.py", "assign"),
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
    tried = [node for block in tree.body if isinstance(block, ast.Try) for node in block.body]
    nodes = [node for node in [*tree.body, *tried] if isinstance(node, ast.Import | ast.ImportFrom)]
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
    allowed = {"pipeline", "pipeline.store", "pipeline.split", "pipeline.errors", "pipeline.nearest"}
    # A training's settings are read as strictly as a catalog, by the same reader.
    allowed |= {"pipeline.yaml_nodes"} if name == "model/config_file.py" else set()
    # The page of a run looks like that of a store.
    allowed |= {"pipeline.pages"} if name == "model/run_page.py" else set()
    assert {module for module in modules if module.split(".")[0] == "pipeline"} <= allowed


def room(module: str) -> str:
    """pipeline/store/open.py and pipeline.store.open are in the room store."""
    return module.replace("/", ".").removesuffix(".py").split(".")[1]


@pytest.mark.parametrize("name", ROOMS)
def test_arrows_between_the_rooms_point_down(name: str) -> None:
    used = {room(module) for module in imports(TREES[name]) if module.startswith("pipeline.")}
    assert used - {room(name)} <= BELOW[room(name)]


def test_files_and_functions_are_short() -> None:
    lengths = {
        f"{name}:{function.name}": code_lines(function)
        for name, tree in TREES.items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}
    assert statistics.median(lengths.values()) <= MEDIAN_FUNCTION_LINES
    files = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in SOURCES}
    files.pop("cli.py")
    assert {name: length for name, length in files.items() if length > MAX_FILE_LINES} == {}
    assert len((ROOT / "cli.py").read_text().splitlines()) <= MAX_COMMAND_LINES


def code_lines(function: ast.FunctionDef) -> int:
    """Lines of a function without its docstring."""
    documented = ast.get_docstring(function) is not None
    first = function.body[0]
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


@pytest.mark.parametrize("library", HOMES)
def test_each_library_has_one_home(library: str) -> None:
    users = {
        name for name, tree in TREES.items() if library in {module.split(".")[0] for module in imports(tree)}
    }
    assert users <= HOMES[library]


def test_network_is_neutral_to_the_backend() -> None:
    neutral = (
        *("network", "applications", "backbones", "backbone_weights", "densenet", "resnet", "temporal"),
        *("own_network", "sononet", "sononet_weights", "architectures", "optimizers"),
        *("augment", "augmentation", "slice_augment", "sononet_augment"),
    )
    for module in neutral:
        tree = TREES[f"model/{module}.py"]
        assert "tensorflow" not in {name.split(".")[0] for name in imports(tree)}


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
        "import model.run_folder, model.compare, model.run_page",
    ],
)
def test_importing_leaves_the_framework_alone(code: str) -> None:
    check = f"{code}; import sys; sys.exit(bool({{'tensorflow', 'keras'}} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT)


# --- reason codes -------------------------------------------------------------------------------


def coded_problems(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """What is called, the code that is its second argument, and the line: ``X.of(where, code, …)``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and len(node.args) > 1:
            called, code = ast.unparse(node.func), node.args[1]
            if called == "Problem" or called.endswith("Error.of"):
                if isinstance(code, ast.Constant):
                    yield called.removesuffix(".of"), str(code.value), node.lineno
                elif ast.unparse(code).startswith("Code."):
                    yield called.removesuffix(".of"), Code[ast.unparse(code)[5:]].value, node.lineno


@pytest.mark.parametrize("name", NAMES)
def test_every_code_is_in_the_table_with_its_exit_code(name: str) -> None:
    for called, code, line in coded_problems(TREES[name]):
        assert code in list(Code), f"line {line}: add `{code}` to pipeline/codes.py"
        if called != "Problem":
            exit_code = getattr(errors, called).exit_code
            assert exit_code in Code(code).exits, f"line {line}: {code} also exits with {exit_code}"


def test_codes_are_found_at_all() -> None:
    assert len({code for tree in TREES.values() for _, code, _ in coded_problems(tree)}) > 100


def test_codes_are_named_like_their_texts() -> None:
    assert [code.name for code in Code] == [code.value.upper().replace("-", "_") for code in Code]
    assert [code.value for code in Code] == sorted(code.value for code in Code)
    assert all(code.meaning and set(code.exits) <= set(range(7)) for code in Code)


def test_the_page_of_codes_is_this_one() -> None:
    assert (ROOT / "docs/reason_codes.md").read_text("utf-8") == reason_codes_page()
