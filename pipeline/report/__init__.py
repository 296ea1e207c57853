"""One HTML page about a store, complete in itself: what to look at before the figures of a run."""

from pipeline.report.page import write_report

__all__ = ["write_report"]
