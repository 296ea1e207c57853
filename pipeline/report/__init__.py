"""One HTML page about a store, or about two side by side, complete in itself: what to look at first."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.catalog.schema import Dataset
from pipeline.errors import Code, ConfigError
from pipeline.report.comparison import write_comparison
from pipeline.report.page import write_report

__all__ = ["write_comparison", "write_pages", "write_report"]


def write_pages(datasets: Sequence[Dataset], out: Path | None, *, cards: bool) -> tuple[Path, ...]:
    """Write the page about one dataset, or that about two of them; returns what was written.

    Raises as ``write_report`` and ``write_comparison``, and ConfigError for cards of two datasets.
    """
    if len(datasets) == 1:
        return write_report(datasets[0], out, cards=cards)
    if cards:
        reason = "--cards and --compare exclude each other"
        raise ConfigError.of("viptt report", Code.BAD_OPTION, reason, "run the command once for each")
    first, second = datasets
    return (write_comparison(first, second, out),)
