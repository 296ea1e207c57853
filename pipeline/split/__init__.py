"""Splits of a store: assigned, described, written, exchanged with other tools, and checked for leaks.

``assign`` and the split file need nothing but the standard library.
"""

from pipeline.split.assignment import assign, equal_folds
from pipeline.split.check import check_split, require_store
from pipeline.split.describe import split_table
from pipeline.split.file import Split, read_split, split_json, write_split
from pipeline.split.interchange import export_split
from pipeline.split.make import choose_fold, given_split, import_split, make_split
from pipeline.split.terms import METHODS
from pipeline.split.update import Request, Update, plan_updates, updates_json, updates_text, write_update

__all__ = [
    "METHODS",
    "Request",
    "Split",
    "Update",
    "assign",
    "check_split",
    "choose_fold",
    "equal_folds",
    "export_split",
    "given_split",
    "import_split",
    "make_split",
    "plan_updates",
    "read_split",
    "require_store",
    "split_json",
    "split_table",
    "updates_json",
    "updates_text",
    "write_split",
    "write_update",
]
