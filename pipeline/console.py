"""What commands print: results on stdout; messages, progress and errors, one line each, on stderr.

Every command takes the same settings, before or after its name, and ends with the documented exit code.
"""

import json
import math
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from pipeline.errors import Code, ConfigError, Problem, ResourceError, VipttError
from pipeline.escape import printable, printable_json
from pipeline.signals import ending_by_signals

PLAIN_PROGRESS_SECONDS = 5.0
SHOWN_WARNINGS = 10
FEW_ALIKE = 5
STDERR = 2
INTERRUPTED = "interrupted: run the same command again to go on"
Command = TypeVar("Command", bound=Callable[..., Any])
Report = Callable[[int], None]


@dataclass
class Settings:
    """Options that every command takes, before or after its name."""

    catalog: Path = Path("data_catalog.yaml")
    verbosity: int = 0
    progress: bool = True
    as_json: bool = False
    printed: bool = False  # the one JSON document has been written


class Commands(click.Group):
    """The group of commands: errors become one line each, and the documented exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command and exit, or as a part of another command return what it returns."""
        if kwargs.get("standalone_mode") is False:
            return super().main(*args, **kwargs)
        # Made here, because click's context, which would hold it, is gone when an error arrives.
        chosen = kwargs.setdefault("obj", Settings())
        kwargs["standalone_mode"] = False
        _open_standard_descriptors()
        with ending_by_signals(INTERRUPTED) as received:
            try:
                code = super().main(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - printed as one line, or raised again by --debug
                arguments = kwargs.get("args") or next(iter(args), None) or sys.argv
                code = None if received else _report_error(error, chosen, arguments)
        if received:
            _message(INTERRUPTED)
            sys.exit(128 + received[0])
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command where there is a working folder: relative paths need one."""
        try:
            Path.cwd()
        except OSError as error:
            remedy = "change to a folder that exists"
            raise ConfigError.of("working folder", Code.NO_FOLDER, str(error.strerror), remedy) from None
        return super().invoke(ctx)


def _open_standard_descriptors() -> None:
    """Open the null device for each closed standard descriptor (`>&-`).

    Otherwise the next file that is opened gets its number, and what libraries print goes into that file.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stderr = sys.stderr or open(STDERR, "w", closefd=False)  # noqa: SIM115 - progress needs one


def _report_error(error: Exception, chosen: Settings, arguments: Sequence[str]) -> int:
    """Print an error's lines, and with --json a document of them on stdout; returns the exit code.

    A command line that is refused may not have set ``as_json`` yet, so the arguments are searched as well.
    """
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        _message(error.format_message())
        return error.exit_code
    known = isinstance(error, VipttError | click.ClickException)
    if not known and "--debug" in arguments:
        raise error
    problems = _problems_of(error)
    _tell(problems, chosen)
    if not chosen.printed and (chosen.as_json or "--json" in arguments):
        try:
            _print_json({"errors": [asdict(problem) for problem in problems]}, chosen)
        except ResourceError as failure:
            _tell(failure.problems, chosen)
    return error.exit_code if isinstance(error, VipttError | click.ClickException) else VipttError.exit_code


def _problems_of(error: Exception) -> Sequence[Problem]:
    if isinstance(error, VipttError):
        return error.problems
    if isinstance(error, click.ClickException):
        return [Problem("viptt", Code.USAGE, error.format_message(), "see `viptt --help`")]
    reason = f"{type(error).__name__}: {error}"
    return [Problem("viptt", Code.UNEXPECTED, reason, "run again with --debug and report it")]


# --- types of options ---------------------------------------------------------------------------


class FiniteRange(click.FloatRange):
    """A float within bounds; unlike its base it refuses NaN, which is neither below nor above a bound."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Fails, as click's types do, for what is none or not in the range."""
        number = super().convert(value, param, ctx)
        return number if math.isfinite(number) else self.fail(f"{value} is not a number.", param, ctx)


class MemorySize(click.types.StringParamType):
    """An amount of memory such as 4GB or 512 MiB, as Dask reads it, or ``auto``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as it was given. Fails, as click's types do, for what is no amount."""
        text = str(value).strip()
        number = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:[kMGT]i?)?B?", text, re.IGNORECASE)
        if text == "auto" or (number and float(number[1]) > 0):
            return text
        return self.fail(f"{value!r} is not an amount of memory; write 4GB, 500MiB or auto.", param, ctx)


# --- settings -----------------------------------------------------------------------------------


def _setting(name: str, *, change: Callable[[Any], Any] = lambda value: value) -> Callable[..., Any]:
    """An option's callback that puts its value into the settings, wherever the option stands."""

    def put(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        chosen = context.find_root().ensure_object(Settings)
        source = context.get_parameter_source(parameter.name or "")
        # An option's default must not undo the value given before the command's name.
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
    """A message for people. A stderr that cannot be written stops nothing."""
    if settings().verbosity >= level:
        _message(printable(text, keep="\n"))


def say_lines(lines: Iterable[str]) -> None:
    """Messages for people, a line each."""
    for line in lines:
        say(line)


def tell_problems(problems: Sequence[Problem]) -> None:
    """Errors, a line each, or one line for many of a kind; printed even with -q."""
    _tell(problems, settings())


def say_warnings(warnings: Sequence[Problem]) -> None:
    """The first few, or one line for many of a kind; all of them with -v."""
    lines = _lines(warnings, settings())
    shown = lines if settings().verbosity > 0 else lines[:SHOWN_WARNINGS]
    for line in shown:
        say(f"warning: {line}")
    if len(lines) > len(shown):
        say(f"warning: {len(lines) - len(shown)} more; -v shows them, each sample's `facts` hold them")


def emit(document: Any, text: str, *, data: bool = False) -> None:
    """The command's result: one JSON document, or text. With -q only text that is ``data`` is printed.

    Raises ResourceError if stdout cannot be written: a lost result is a failure.
    """
    chosen = settings()
    if chosen.as_json:
        _print_json(document, chosen)
    elif text and (data or chosen.verbosity >= 0):
        _print(printable(text, keep="\n"))


def _tell(problems: Sequence[Problem], chosen: Settings) -> None:
    for line in _lines(problems, chosen):
        _message(line)


def _lines(problems: Sequence[Problem], chosen: Settings) -> list[str]:
    """A line for each problem; unless all are asked for, one line for more than a few of a kind."""
    alike: defaultdict[tuple[str, ...], list[Problem]] = defaultdict(list)
    for problem in problems:
        # Two problems of one kind differ by the names and numbers in them.
        kind = re.sub(r"`[^`]*`|\d+", "", problem.reason)
        alike[problem.code, kind, problem.remedy].append(problem)
    lines: list[str] = []
    for group in alike.values():
        shown = group if chosen.verbosity > 0 or len(group) <= FEW_ALIKE else [_counted(group)]
        lines += map(str, shown)
    return lines


def _counted(group: Sequence[Problem]) -> Problem:
    # The first is shown in full: a count alone gives nobody a file to look at.
    others = ", ".join(problem.where for problem in group[1:4])
    count = f"and {len(group) - 1} more like it: {others}, …; -v shows all"
    return replace(group[0], reason=f"{group[0].reason} ({count})")


def _message(text: str) -> None:
    with _ignoring_lost_messages():
        click.echo(text, err=True)


@contextmanager
def _ignoring_lost_messages() -> Iterator[None]:
    """Ignore that stderr cannot be written, and discard what is printed there from now on."""
    try:
        yield
    except OSError:
        _discard(sys.stderr)


def _discard(stream: Any) -> None:
    """Redirect a stream to the null device.

    Python writes what is left in the stream's buffer when it ends, and would end with another exit code.
    """
    with suppress(OSError, ValueError):  # a stream in memory has no descriptor
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _print(text: str) -> None:
    try:
        click.echo(text)
    except OSError as error:
        _discard(sys.stdout)
        remedy = "free space, or give the output a reader that takes all of it"
        raise ResourceError.of("stdout", Code.CANNOT_WRITE, str(error.strerror), remedy) from None


def _print_json(document: Any, chosen: Settings) -> None:
    # Before the attempt: after half a document on stdout a second one helps nobody.
    chosen.printed = True
    _print(printable_json(json.dumps(document, indent=2, ensure_ascii=False)))


# --- progress -----------------------------------------------------------------------------------


@contextmanager
def progress(name: str, total: int, what: str) -> Iterator[Report]:
    """A bar with rate and time left on a terminal, plain lines elsewhere.

    Time left is reckoned from the first result on: before it, workers start.

    Yields a function to call after each item with the bytes that were read of it.
    """
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
    bar: Any = click.progressbar(
        length=total,
        label=name,
        file=sys.stderr,
        show_pos=True,
        item_show_func=lambda text: text,
    )

    def report(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        with _ignoring_lost_messages():
            bar.update(1, f"{done / (time.monotonic() - start) / 1e6:.1f} MB/s")
        if bar.pos == 1:
            bar.start = time.time()
            bar.avg.clear()

    with _ignoring_lost_messages():
        bar.render_progress()
    try:
        yield report
    finally:
        with _ignoring_lost_messages():
            bar.render_finish()


def _plain_progress(name: str, total: int, what: str) -> Report:
    start = first = told = time.monotonic()
    count = done = 0

    def report(nbytes: int) -> None:
        nonlocal count, done, first, told
        count, done, now = count + 1, done + nbytes, time.monotonic()
        if count == 1:
            first = now
        elif now - told >= PLAIN_PROGRESS_SECONDS:
            told = now
            left = (now - first) / (count - 1) * (total - count)
            rate = done / (now - start) / 1e6
            say(f"{name}: {count} of {total} {what}, {rate:.1f} MB/s, {left:.0f} s left")

    return report
