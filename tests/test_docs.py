"""The pages for people: the files that they name are there, and a sample takes the way that they describe."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from cli import main
from pipeline.catalog import load_catalog

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
NAMED = re.compile(r"`((?:pipeline|model|tests|benchmarks|docs)/[\w./-]+\.\w+)`")
LINKED = re.compile(r"\[[^\]\"]+\]\((?!https?:|#)([^)#\s]+)")
EXAMPLES = {"pipeline/readers/npy.py", "model/mean_net.py"}  # of CONTRIBUTING.md
# A sample gets its label, its values and its bytes in these functions.
MILESTONES = ("label_by_table", "zoom", "write_chunk")
MAX_STOPS = 10
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = re.compile(r"^<!-- run: (\w+) -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = [
    pytest.param(body, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, (language, body) in enumerate(FENCE.findall(page.read_text("utf-8")))
    if language == "python"
]
RUNNABLE = [
    pytest.param(library, code, id=f"{page.stem}-{number}-{library}")
    for page in PAGES
    for number, (library, code) in enumerate(RUN.findall(page.read_text("utf-8")))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text("utf-8")
    named = {ROOT / name for name in NAMED.findall(text) if name not in EXAMPLES}
    linked = {page.parent / link for link in LINKED.findall(text)}
    assert [path for path in sorted(named | linked) if not path.exists()] == []


def test_every_page_is_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    pages = [page.name for page in ROOT.glob("docs/*.md")]
    assert len(pages) > 5
    assert [name for name in pages if f"docs/{name}" not in readme] == []


def test_a_sample_takes_the_way_that_the_map_shows(tmp_path: Path, ct_dataset: Callable[..., Path]) -> None:
    stops, helpers = described_way()
    assert len(stops) <= MAX_STOPS
    catalog = ct_dataset(tmp_path, scans=2)
    ways = ways_to_milestones(["build", "--scheduler", "sync", "--catalog", str(catalog)])
    assert set(ways) == set(MILESTONES)
    for way in ways.values():
        assert len(set(way)) == len(way), f"back and forth: {way}"
        assert set(way) <= {*stops, *helpers}
        assert [name for name in way if name in stops] == [name for name in stops if name in way]
    assert {name for way in ways.values() for name in way} >= set(stops)


def described_way() -> tuple[list[str], set[str]]:
    """The files that the map lists as stops of a sample, in order, and those that are called in passing."""
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    section = text.partition("## The life of one sample")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| \d+ \| `([^`]+)` \|.*\|([^|]*)\|$", section, re.MULTILINE)
    return [stop for stop, _ in rows], {name for _, cell in rows for name in NAMED.findall(cell)}


def ways_to_milestones(arguments: list[str]) -> dict[str, list[str]]:
    """Milestone → the files of the program on the stack, from ``cli.build`` to its first call."""
    found: dict[str, list[str]] = {}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_code.co_name
        if event == "call" and name in MILESTONES and name not in found and own_file(frame):
            found[name] = way_to(frame)

    sys.setprofile(note)
    try:
        result = CliRunner().invoke(main, arguments)
    finally:
        sys.setprofile(None)
    assert result.exit_code == 0, result.stderr
    return found


def way_to(frame: FrameType) -> list[str]:
    files = [name for caller in reversed(list(callers(frame))) if (name := own_file(caller))]
    return [name for name, _ in groupby(files)]


def callers(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and those that called it, up to the command."""
    while frame is not None:
        yield frame
        if (own_file(frame), frame.f_code.co_name) == ("cli.py", "build"):
            return
        frame = frame.f_back


def own_file(frame: FrameType) -> str:
    """Path of a frame's file below the root; "" for the files of others."""
    path = Path(frame.f_code.co_filename)
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    return name if name.startswith(("cli.py", "pipeline/")) else ""


# --- commands -----------------------------------------------------------------------------------


def shell_lines(text: str) -> list[str]:
    """Lines of a page's blocks, indented or fenced, that call `viptt` or `make`."""
    blocks = FENCE.sub(lambda match: re.sub("^", "    ", match[2], flags=re.MULTILINE), text)
    return re.findall(r"^    +(?:\$ )?((?:viptt|make) .*)$", blocks, re.MULTILINE)


LINES = sorted({line for page in PAGES for line in shell_lines(page.read_text("utf-8"))})
INLINE = sorted({code for page in PAGES for code in re.findall(r"`(viptt [^`]+)`", page.read_text("utf-8"))})


def parse(arguments: list[str]) -> None:
    """Let click's own parser read a whole command line."""
    with main.make_context("viptt", arguments) as context:
        name, command, rest = main.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        command.make_context(name, rest, parent=context)


def unknown_words(arguments: list[str]) -> set[str]:
    """The command, if there is none of its name, and the options that it does not have."""
    command = main.commands.get(arguments[0], main)
    known = {text for parameter in command.params for text in [*parameter.opts, *parameter.secondary_opts]}
    words = {word.split("=")[0] for word in arguments if word.startswith("-")}
    named = {arguments[0]} - {*main.commands} if not arguments[0].startswith("-") else set()
    return named | (words - known - {"--help", "-h"})


def test_there_are_commands_to_test() -> None:
    assert len(LINES) > 40
    assert len(INLINE) > 30
    assert len(PYTHON) > 10
    assert {parameter.values[0] for parameter in RUNNABLE} >= {
        "torch",
        "jax",
        "xarray",
        "dask",
        "tensorstore",
    }


@pytest.mark.parametrize("line", LINES)
def test_every_line_of_shell_parses(line: str) -> None:
    program, *arguments = shlex.split(line, comments=True)
    if program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert arguments[0] in targets
    elif arguments != ["COMMAND", "-h"]:
        parse(arguments)


@pytest.mark.parametrize("code", INLINE)
def test_commands_within_sentences_exist_with_their_options(code: str) -> None:
    arguments = shlex.split(code)[1:]
    assert unknown_words(arguments) <= {"COMMAND"}


def test_a_wrong_line_is_found() -> None:
    for wrong in (["bild"], ["build", "--worker", "2"], ["train"], ["split", "--folds", "1"]):
        with pytest.raises(click.UsageError):
            parse(wrong)
    assert unknown_words(["report", "ct", "--compares"]) == {"--compares"}
    assert unknown_words(["bild", "ct"]) == {"bild"}


# --- catalogs -----------------------------------------------------------------------------------


def catalogs() -> Iterator[Any]:
    """The catalogs that the pages show; where only datasets are shown, with a head."""
    for page in PAGES:
        blocks = [body for language, body in FENCE.findall(page.read_text("utf-8")) if language == "yaml"]
        for number, body in enumerate(blocks):
            document = yaml.safe_load(body)
            datasets = document.get("datasets", document)
            if all(isinstance(value, dict) and "store" in value for value in datasets.values()):
                yield pytest.param(datasets, id=f"{page.stem}-{number}")


@pytest.mark.parametrize("datasets", list(catalogs()))
def test_catalogs_are_read(datasets: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "data_catalog.yaml"
    file.write_text(yaml.safe_dump({"version": 1, "datasets": datasets}, sort_keys=False))
    assert list(load_catalog(file).datasets) == list(datasets)


# --- Python -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", PYTHON)
def test_python_compiles(code: str) -> None:
    compile(code, "snippet", "exec")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, ct_dataset: Callable[..., Path]) -> Path:
    """A folder in which the paths of the snippets hold a store and its split."""
    folder = tmp_path_factory.mktemp("snippets")
    catalog = ct_dataset(folder, scans=8)
    for command in (("build", "--scheduler", "sync"), ("split",)):
        assert CliRunner().invoke(main, [*command, "--catalog", str(catalog)]).exit_code == 0
    for source, name in (
        ("cache/ct.zarr", "cache/imageclef_tb.zarr"),
        ("splits/ct.json", "splits/imageclef_tb.json"),
    ):
        target = folder / "data" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder / source, target) if target.suffix == ".zarr" else shutil.copy(
            folder / source, target
        )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("library", "code"), RUNNABLE)
def test_python_runs(library: str, code: str, data: Path) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    (data / "snippet.py").write_text(code, "utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "snippet.py"]
    result = subprocess.run(command, cwd=data, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_the_notebook_draws_slices_of_the_store(data: Path) -> None:
    cells = json.loads((ROOT / "docs/notebook.ipynb").read_text("utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell.get("outputs") for cell in cells)
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed")
    (data / "notebook.py").write_text("\n".join(code), "utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    command = [sys.executable, "-W", "error", "notebook.py"]
    result = subprocess.run(command, cwd=data, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    picture = Image.open(data / "slices.png").convert("L")
    assert picture.width == 600
    assert len(set(picture.resize((60, 60)).tobytes())) > 50  # gray levels of slices


# --- the site -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_for_nothing(tmp_path: Path) -> None:
    if not all(map(importlib.util.find_spec, ("mkdocs", "material", "mkdocstrings"))):
        pytest.skip("the extra `docs` is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    pages = list(tmp_path.glob("*.html"))
    assert {page.stem for page in pages} >= {page.stem for page in ROOT.glob("docs/*.md")}
    for page in pages:
        html = page.read_text("utf-8")
        asked = re.findall(r'(?:src="|<link[^>]*href=")(https?:[^"]+)', html)
        assert asked == [], page.name
    assert json.loads((tmp_path / "search/search_index.json").read_text("utf-8"))["docs"]
