"""What the modules of splits share: the names of splits and methods, and the remedy for most faults."""

from collections.abc import Mapping, Sequence

FORMAT = 1
TRAIN, VAL, TEST = "train", "val", "test"
GROUPED = "stratified-grouped-hash-1"
PLAIN = "stratified-hash-1"
PAPER = "viptt-2021"
GIVEN = "given"
CENTRES = "sononet-2025"
METHODS = (GROUPED, PLAIN, PAPER)
LONE = "sample "  # begins the name of a unit of one sample without a group
ASSIGN_AGAIN = "run `viptt split --force`"

Lists = Mapping[str, Sequence[str]]  # name of a split → ids
