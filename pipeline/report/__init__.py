"""One HTML page about a store, or about two side by side, complete in itself: what to look at first."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.catalog import load_catalog
from pipeline.catalog.schema import Dataset
from pipeline.errors import Code, ConfigError, Problem
from pipeline.report.comparison import write_comparison
from pipeline.report.page import write_report

__all__ = ["named_runs", "write_comparison", "write_pages", "write_report"]


def named_runs(names: Sequence[str], catalog: Path, *, mark: str) -> tuple[Path, ...]:
    """The names as folders if they are runs, which hold a file called ``mark``; none if no name is one.

    Raises ConfigError if some are runs and others are not, or if one is a dataset as well: guessing could
    show other samples than the user means.
    """
    runs = [name for name in names if Path(name, mark).is_file()]
    if runs and len(runs) < len(names):
        others = [name for name in names if name not in runs]
        reason, remedy = f"it is no run, as {runs[0]} is", "name runs alone, or datasets alone"
        raise ConfigError(*(Problem(name, Code.NOT_A_RUN, reason, remedy) for name in others))
    known = load_catalog(catalog).datasets if runs and catalog.is_file() else {}
    both = [name for name in runs if name in known]
    if both:
        reason, remedy = "it is a dataset, and also a run here", f"write `./{both[0]}` for the run"
        raise ConfigError.of(both[0], Code.AMBIGUOUS_INPUT, reason, remedy)
    return tuple(map(Path, runs))


def write_pages(datasets: Sequence[Dataset], out: Path | None, *, cards: bool) -> tuple[Path, ...]:
    """Write the page about one dataset, or that about two of them; returns what was written.

    Raises as ``write_report`` and ``write_comparison``, and ConfigError for three datasets or more, and for
    cards of two.
    """
    if len(datasets) == 1:
        return write_report(datasets[0], out, cards=cards)
    if cards or len(datasets) > 2:
        reason = (
            "--cards are of one dataset" if cards else f"{len(datasets)} datasets are too many for a page"
        )
        raise ConfigError.of("viptt report", Code.BAD_OPTION, reason, "run the command once for each")
    first, second = datasets
    return (write_comparison(first, second, out),)
