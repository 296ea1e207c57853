"""How commands talk: results on stdout; messages, progress and errors, one line each, on stderr.

Every command takes the same settings, before or after its name, and ends with the documented exit code.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from pipeline.errors import Problem, VipttError
from pipeline.escape import printable, printable_json

PLAIN_PROGRESS_SECONDS = 5.0
SHOWN_WARNINGS = 10
STDERR = 2
Command = TypeVar("Command", bound=Callable[..., Any])
Report = Callable[[int], None]


@dataclass
class Settings:
    """Options that every command takes, before or after its name."""

    catalog: Path = Path("data_catalog.yaml")
    verbosity: int = 0
    progress: bool = True
    as_json: bool = False


class Commands(click.Group):
    """The group of commands: errors become one line each, and the documented exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command and exit, or as a part of another command return what it returns."""
        if kwargs.get("standalone_mode") is False:
            return super().main(*args, **kwargs)
        kwargs["standalone_mode"] = False
        _open_standard_descriptors()
        with _ending_by_signals() as received:
            try:
                code = super().main(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - told in one line, or raised again by --debug
                debug = "--debug" in (kwargs.get("args") or next(iter(args), None) or sys.argv)
                code = None if received else _told(error, debug=debug)
        if received:
            click.echo("interrupted: run the same command again to go on", err=True)
            sys.exit(128 + received[0])
        sys.exit(code if isinstance(code, int) else 0)


def _open_standard_descriptors() -> None:
    """Null devices where there are none (`>&-`): else the next file opened gets the number, and what
    libraries print goes into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stderr = sys.stderr or open(STDERR, "w", closefd=False)  # noqa: SIM115 - progress asks it


@contextmanager
def _ending_by_signals() -> Iterator[list[int]]:
    """Let SIGINT and SIGTERM end what runs; gives the signals that came.

    A signal may come while a library holds a lock: then what comes out is the library's complaint
    about its lock, which is no failure of its own.
    """
    received: list[int] = []

    def end(number: int, frame: object) -> NoReturn:
        received.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with suppress(KeyboardInterrupt):
            yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _told(error: Exception, *, debug: bool) -> int:
    """Tell an error in a line, and give its exit code."""
    if isinstance(error, VipttError):
        tell_problems(error.problems)
        return error.exit_code
    if isinstance(error, click.ClickException):
        tell_problems([Problem("viptt", "usage", error.format_message(), "see `viptt --help`")])
        return error.exit_code
    if debug:
        raise error
    reason = f"{type(error).__name__}: {error}"
    tell_problems([Problem("viptt", "unexpected", reason, "run again with --debug and report it")])
    return VipttError.exit_code


def tell_problems(problems: Sequence[Problem]) -> None:
    """Errors, a line each; said however quiet it is to be."""
    for problem in problems:
        click.echo(str(problem), err=True)


# --- settings -----------------------------------------------------------------------------------


def _setting(name: str, *, change: Callable[[Any], Any] = lambda value: value) -> Callable[..., Any]:
    """An option's callback that puts its value into the settings, wherever the option stands."""

    def put(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        chosen = context.find_root().ensure_object(Settings)
        source = context.get_parameter_source(parameter.name or "")
        if source not in (click.core.ParameterSource.DEFAULT, click.core.ParameterSource.DEFAULT_MAP):
            setattr(chosen, name, change(value))

    return put


_option = partial(click.option, expose_value=False)
_COMMON = (
    _option(
        "--catalog",
        type=click.Path(path_type=Path),
        envvar="VIPTT_CATALOG",
        callback=_setting("catalog"),
        help="The catalog of datasets.  [default: data_catalog.yaml]",
    ),
    _option("-v", "--verbose", count=True, callback=_setting("verbosity"), help="Say more."),
    _option(
        "-q",
        "--quiet",
        is_flag=True,
        callback=_setting("verbosity", change=lambda value: -1),
        help="Say nothing but errors.",
    ),
    _option(
        "--no-progress",
        is_flag=True,
        callback=_setting("progress", change=lambda value: not value),
        help="Show no progress.",
    ),
    _option("--json", is_flag=True, callback=_setting("as_json"), help="Print one JSON document."),
    # No setting: it is read from the arguments, since it is needed where there is no context any more.
    _option("--debug", is_flag=True, help="Show tracebacks."),
)


def common(command: Command) -> Command:
    """Give a command the options for the settings."""
    for option in reversed(_COMMON):
        command = option(command)
    return command


def settings() -> Settings:
    """The settings of the command that runs."""
    return click.get_current_context().find_root().ensure_object(Settings)


# --- messages -----------------------------------------------------------------------------------


def say(text: str, *, level: int = 0) -> None:
    """A message for people."""
    if settings().verbosity >= level:
        click.echo(printable(text, keep="\n"), err=True)


def emit(document: Any, text: str) -> None:
    """The command's result: one JSON document, or text."""
    if settings().as_json:
        click.echo(printable_json(json.dumps(document, indent=2, ensure_ascii=False)))
    elif text:
        click.echo(printable(text, keep="\n"))


def say_warnings(warnings: Sequence[Problem]) -> None:
    """The first few; all of them with -v."""
    shown = warnings if settings().verbosity > 0 else warnings[:SHOWN_WARNINGS]
    for problem in shown:
        say(f"warning: {problem}")
    if len(warnings) > len(shown):
        say(f"warning: {len(warnings) - len(shown)} more; -v shows them, each sample's `facts` hold them")


# --- progress -----------------------------------------------------------------------------------


@contextmanager
def progress(name: str, total: int, what: str) -> Iterator[Report]:
    """A bar with rate and time left on a terminal, plain lines elsewhere; told the bytes read of each."""
    if not settings().progress or settings().verbosity < 0:
        yield lambda nbytes: None
    elif sys.stderr.isatty():
        with _bar(name, total) as report:
            yield report
    else:
        yield _plain_progress(name, total, what)


@contextmanager
def _bar(name: str, total: int) -> Iterator[Report]:
    start, done = time.monotonic(), 0
    with click.progressbar(
        length=total,
        label=name,
        file=sys.stderr,
        show_pos=True,
        item_show_func=lambda text: text,
    ) as bar:

        def report(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            bar.update(1, f"{done / (time.monotonic() - start) / 1e6:.1f} MB/s")

        yield report


def _plain_progress(name: str, total: int, what: str) -> Report:
    start = told = time.monotonic()
    count = done = 0

    def report(nbytes: int) -> None:
        nonlocal count, done, told
        count, done, now = count + 1, done + nbytes, time.monotonic()
        if now - told >= PLAIN_PROGRESS_SECONDS:
            told = now
            left = (now - start) / count * (total - count)
            rate = done / (now - start) / 1e6
            say(f"{name}: {count} of {total} {what}, {rate:.1f} MB/s, {left:.0f} s left")

    return report
