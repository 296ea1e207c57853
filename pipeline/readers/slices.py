"""Slices that a list names, each in a file of its own: the slices of one scan are one stack.

A list gives for each slice its class and the box of the body; the file's name says which scan of which
patient it shows (see ``covidx``). Slices of a stack may differ in size. They stand in the order of the
numbers in their names; which slices of the scan are missing cannot be told.
"""

from pathlib import PurePosixPath

from pipeline.readers.picture_file import SUFFIXES, ListedPicture, read_each, read_picture
from pipeline.readers.reading import Facts, PictureReading, Reading, Source, SourceType, Statistics
from pipeline.recipe import SlicesRecipe
from pipeline.statistics import describe

HISTOGRAM = (0.0, 256.0)  # gray levels


def inspect(source: Source) -> Facts:
    """Facts from the list and the first slice. Raises SourceError if that cannot be read."""
    first = read_picture(source.path / source.listed[0].file)
    return {**_facts(source), "shape": [len(source.listed), *map(int, first.shape)]}


def pictures(source: Source, recipe: SlicesRecipe) -> PictureReading:
    """The slices of a scan; one that cannot be read says why."""
    facts = _facts(source)
    listed = [
        ListedPicture(PurePosixPath(item.file).stem, item.file, position, item.box)
        for position, item in enumerate(source.listed)
    ]
    return PictureReading(read_each(source, listed, recipe, facts, alike=False), facts)


def examine(source: Source) -> Reading:
    """The last slice, after all were decoded, with the facts of the stack. Raises SourceError."""
    facts = _facts(source)
    for item in source.listed:
        values = read_picture(source.path / item.file)
        facts["shape"][1:] = map(max, facts["shape"][1:], values.shape)
    return Reading(values[None], facts, describe(values, HISTOGRAM))


def _facts(source: Source) -> Facts:
    suffix = PurePosixPath(source.listed[0].file).suffix.lower().removeprefix(".")
    return {"shape": [len(source.listed), 0, 0], "format": suffix, "warnings": []}


def doubts(statistics: Statistics, facts: Facts) -> list[str]:
    """Nothing: lists may well name a single slice of a scan."""
    return []


SOURCE = SourceType(
    "slices",
    SUFFIXES,
    SlicesRecipe,
    inspect,
    examine,
    pictures,
    None,  # slices may differ in size
    kind="format",
    converter=1,
    doubts=doubts,
    from_lists=True,
)
