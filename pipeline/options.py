"""Options of the command line: those that several commands share, and the long lists of some."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from pipeline import console
from pipeline.errors import VipttError

Command = TypeVar("Command", bound=Callable[..., Any])


def _names(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Datasets of the catalog, for the completion of a shell, where an error would disturb: then none."""
    from pipeline.catalog import load_catalog

    chosen = context.find_root().ensure_object(console.Settings)
    try:
        known = load_catalog(chosen.catalog).datasets
    except VipttError:
        return []
    given = context.params.get("names") or ()
    return [name for name in known if name.startswith(typed) and name not in given]


DATASETS = click.argument("names", metavar="[DATASET]...", nargs=-1, shell_complete=_names)
DATASET = click.argument("name", metavar="DATASET", shell_complete=_names)
REPORTED = click.argument("names", metavar="DATASET|RUN...", nargs=-1, required=True, shell_complete=_names)
MAYBE_DATASET = click.argument("name", metavar="[DATASET]", required=False, shell_complete=_names)
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path)
ALLOW_MISSING = click.option(
    "--allow-missing", is_flag=True, help="Quarantine files without a label and labels without a file."
)
WORKERS = click.option(
    "--workers", type=click.IntRange(min=1), help="Processes (or threads).  [default: all cores]"
)
TIMEOUT = click.option(
    "--timeout",
    type=console.FiniteRange(0, 10_000_000, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds for one source (local workers).",
)
MEMORY_LIMIT = click.option(
    "--memory-limit",
    "memory",
    type=console.MemorySize(),
    default="auto",
    show_default=True,
    help="Memory of one worker, such as 4GB (local workers).",
)
STALE_OK = click.option(
    "--stale-ok", is_flag=True, help="Go on although the catalog asks for another recipe or other classes."
)
BATCH_SIZE = click.option("--batch-size", type=click.IntRange(min=1), default=2, show_default=True)

_BUILDING = (
    WORKERS,
    click.option(
        "--scheduler",
        default="local",
        show_default=True,
        metavar="local|threads|sync|tcp://HOST:PORT",
        help="Where to run: processes or threads on this machine, this process alone, or a Dask cluster.",
    ),
    click.option("--dry-run", is_flag=True, help="Say what would be done."),
    click.option("--limit", type=click.IntRange(min=1), help="Only the first samples, by id."),
    click.option(
        "--max-bad",
        type=console.FiniteRange(0, 1),
        default=1.0,
        show_default=True,
        help="Publish nothing if more than this fraction of the sources is bad.",
    ),
    click.option("--strict", is_flag=True, help="Publish nothing if any source is bad: --max-bad 0."),
    TIMEOUT,
    MEMORY_LIMIT,
    ALLOW_MISSING,
)
_SPLITTING = (
    click.option("--check", is_flag=True, help="Find leaks in the split that is there; write nothing."),
    click.option(
        "--export",
        metavar="FORMAT",
        help="Write the split that is there as nnunet, ucf, covidx, monai or csv.",
    ),
    click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for --export."),
    click.option("--import", "given", type=click.Path(path_type=Path), help="Take the lists from a file."),
    click.option(
        "--folds", type=click.IntRange(min=2), help="Number of equal folds.  [default: the catalog's]"
    ),
    click.option(
        "--fold", type=click.IntRange(min=0), help="Number of the fold that validates; the others train."
    ),
    click.option("--force", is_flag=True, help="Replace a split, or exported lists, that are there."),
    STALE_OK,
)
_PREDICTING = (
    click.option(
        "--with", "others", metavar="RUN", multiple=True, type=FOLDER, help="Another run to average."
    ),
    click.option("--split", help="Name of a split of the dataset.  [default: all samples]"),
    click.option("--out", type=FILE, help="Write the table there, and quarantined files beside it."),
    click.option("--submission", type=FILE, help="Also write lines `NAME.nii.gz,CLASS` for ImageCLEF."),
    click.option("--explain", type=FOLDER, help="Folder for pictures of the slices that decide."),
    click.option("--timelines", type=FOLDER, help="Folder for pictures of predictions over time."),
    BATCH_SIZE,
    WORKERS,
    click.option(
        "--scheduler",
        type=click.Choice(["local", "threads", "sync"]),
        default="local",
        show_default=True,
        help="Where to read files.",
    ),
    TIMEOUT,
    MEMORY_LIMIT,
)
_DEMO = (
    click.option(
        "--kind",
        type=click.Choice(["ct", "ultrasound", "slices"]),
        default="ct",
        show_default=True,
        help="Of the sources: scans and clips, ultrasound videos, or CT slices.",
    ),
    click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of data and weights."
    ),
    click.option("--no-train", is_flag=True, help="Stop before training, which needs TensorFlow."),
)

_REPORTING = (
    click.option(
        "--out",
        type=FILE,
        help="The page.  [default: NAME.report.html beside the store, report.html in the run]",
    ),
    click.option(
        "--cards",
        is_flag=True,
        help="Also a dataset card, Croissant metadata and a table of samples; of a run, a model card.",
    ),
    click.option(
        "--compare",
        "other",
        metavar="OTHER",
        shell_complete=_names,
        help="Instead: two datasets of the same sources side by side, with their differences.",
    ),
)


def reading(command: Command) -> Command:
    """Give a command the options of the workers that read sources."""
    return _with(command, (WORKERS, TIMEOUT, MEMORY_LIMIT))


def building(command: Command) -> Command:
    """Give a command the options of a build."""
    return _with(command, _BUILDING)


def predicting(command: Command) -> Command:
    """Give a command the options of a prediction."""
    return _with(command, _PREDICTING)


def reporting(command: Command) -> Command:
    """Give a command the options of a report."""
    return _with(command, _REPORTING)


def splitting(command: Command) -> Command:
    """Give a command the options of a split."""
    return _with(command, _SPLITTING)


def demonstrating(command: Command) -> Command:
    """Give a command the options of the demo."""
    return _with(command, _DEMO)


def _with(command: Command, options: Iterable[Callable[[Command], Command]]) -> Command:
    # click lists first what was added last.
    for option in reversed(list(options)):
        command = option(command)
    return command
