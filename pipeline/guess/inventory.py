"""Which type of source a folder seems to hold, and what else lies there."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.errors import Code, ConfigError
from pipeline.escape import printable
from pipeline.readers import SOURCE_TYPES
from pipeline.readers.reading import SourceType
from pipeline.sources.discover import Found, count_suffixes, find_files, find_stacks, stem_of
from pipeline.sources.labels import other_type

TYPES = ("nifti", "video", "frames")  # whose sources can be told from their names


@dataclass(frozen=True)
class Inventory:
    """The sources of the type that is most frequent in a folder, and all its other files.

    Paths are below ``folder``, with `/`. ``counts`` tells the number of sources of each type that is there.
    """

    folder: Path
    source_type: SourceType
    sources: tuple[str, ...]
    others: tuple[str, ...]
    counts: dict[str, int]

    @property
    def reason(self) -> str:
        """Why this type."""
        what = "folders of pictures" if self.source_type.folder else self._endings()
        beside = [
            f"{count} of type {name}"
            for name, count in self.counts.items()
            if count and name != self.source_type.name
        ]
        said = f"{len(self.sources)} {what}"
        return f"{said}; not used: {', '.join(beside)}" if beside else said

    def _endings(self) -> str:
        suffixes = self.source_type.suffixes
        there = [next(end for end in suffixes if name.lower().endswith(end)) for name in self.sources]
        return "files " + ", ".join(suffix for suffix in suffixes if suffix in there)

    def names(self, source: str) -> set[str]:
        """What a label table may call a source: its path or name, with or without suffix."""
        name, endings = PurePosixPath(source).name, self.source_type.endings
        return {source, name, stem_of(source, endings), stem_of(name, endings)}


def take_inventory(folder: Path) -> Inventory:
    """Look at a folder. Raises ConfigError if it is not there, or holds nothing that can be read."""
    if not folder.is_dir():
        raise ConfigError.of(folder, Code.NO_FOLDER, "there is no such folder", "name the folder of sources")
    if printable(str(folder)) != str(folder):
        raise ConfigError.of(folder, Code.BAD_NAME, "its name holds a control character", "rename it")
    found = {name: _found(folder, SOURCE_TYPES[name]) for name in TYPES}
    counts = {name: len(item.sources) for name, item in found.items()}
    best = max(counts, key=lambda name: counts[name])  # of equal counts the first
    if counts[best] < 2:
        raise _too_few(folder, found[best])
    # What cannot be printed can stand in no catalog; `viptt check` tells about it.
    named = tuple(source for source in found[best].sources if printable(source) == source)
    return Inventory(folder, SOURCE_TYPES[best], named, found[best].others, counts)


def _found(folder: Path, source: SourceType) -> Found:
    return (find_stacks if source.folder else find_files)(folder, source.suffixes)


def _too_few(folder: Path, found: Found) -> ConfigError:
    suffixes = count_suffixes(found.others)
    there = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in suffixes.items())
    reason = f"{len(found.sources)} sources of a known type"
    reason += f"; there are {there}" if there else ""
    types = ", ".join(TYPES)
    remedy = next(filter(None, map(other_type, suffixes)), f"name a folder with sources of type {types}")
    if any(suffix in SOURCE_TYPES["frames"].suffixes for suffix in suffixes):
        remedy = "put the pictures of each stack into a folder of its own, below this one"
    return ConfigError.of(folder, Code.NO_SAMPLES, reason, remedy)
