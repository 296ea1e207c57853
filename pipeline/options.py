"""Options of the command line that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pipeline import console

Command = TypeVar("Command", bound=Callable[..., Any])

DATASETS = click.argument("names", metavar="[DATASET]...", nargs=-1)
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


def reading(command: Command) -> Command:
    """Give a command the options of the workers that read sources."""
    for option in (MEMORY_LIMIT, TIMEOUT, WORKERS):
        command = option(command)
    return command
