"""Generated sources to try the whole chain on: CT phantoms, action clips, and a catalog of both.

`phantom` renders scans as arrays, `scans` and `clips` write files, `catalog` puts a folder together, and
`steps` runs the commands of the chain on it.
"""

from pipeline.demo.catalog import write_demo
from pipeline.demo.clips import ACTIONS
from pipeline.demo.phantom import TB_TYPES
from pipeline.demo.steps import run_demo

__all__ = ["ACTIONS", "TB_TYPES", "run_demo", "write_demo"]
