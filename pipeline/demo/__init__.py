"""Generated sources to try the whole chain on: CT phantoms and action clips, ultrasound videos, CT slices.

`phantom` renders scans as arrays; `scans`, `clips`, `ultrasound` and `slices` write files; `catalog` puts a
folder together, and `steps` runs the commands of the chain on it.
"""

from pipeline.demo.catalog import write_demo, write_slices_demo, write_ultrasound_demo
from pipeline.demo.clips import ACTIONS
from pipeline.demo.phantom import TB_TYPES
from pipeline.demo.steps import KINDS, run_demo
from pipeline.demo.ultrasound import MOTION

__all__ = [
    "ACTIONS",
    "KINDS",
    "MOTION",
    "TB_TYPES",
    "run_demo",
    "write_demo",
    "write_slices_demo",
    "write_ultrasound_demo",
]
