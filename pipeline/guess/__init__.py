"""A first catalog for a folder: what its sources seem to be, and where their labels seem to stand."""

from pipeline.guess.draft import Draft, as_json, write_catalog

__all__ = ["Draft", "as_json", "write_catalog"]
