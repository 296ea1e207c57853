"""Which sources lie below a folder, and what they are called."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.catalog.patterns import matches_glob
from pipeline.catalog.schema import Dataset
from pipeline.errors import Code, ConfigError, Problem, ResourceError
from pipeline.escape import printable
from pipeline.sources.quarantine import Quarantined

CONTROL = "its name holds a control character"


@dataclass(frozen=True)
class Found:
    """Paths below a folder, with `/` and sorted: sources, and files of other types."""

    sources: tuple[str, ...]
    others: tuple[str, ...]


def find_files(folder: Path, suffixes: tuple[str, ...]) -> Found:
    """Everything below a folder whose name has one of the suffixes in any case, and all other files.

    Names that start with a dot are left out. Linked folders are followed, each folder once.
    """
    sources: list[str] = []
    others: list[str] = []
    seen = set()
    for root, folders, files in os.walk(folder, onerror=_refuse_folder, followlinks=True):
        # A link may lead back to a folder above: a folder that was seen under another name is not entered.
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        # A folder that is named like a source is listed, so that its reader refuses it in plain words.
        named = [name for name in folders if name.lower().endswith(suffixes)]
        # os.walk goes into what is left here; sorted, so that the first name of a linked folder is always
        # the same one.
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in named)
        for name in (*files, *named):
            if not name.startswith("."):
                path = Path(root, name).relative_to(folder).as_posix()
                (sources if name.lower().endswith(suffixes) else others).append(path)
    return Found(tuple(sorted(sources)), tuple(sorted(others)))


def find_stacks(folder: Path, suffixes: tuple[str, ...]) -> Found:
    """Folders below a folder that directly hold files with one of the suffixes, and all other files."""
    found = find_files(folder, suffixes)
    homes = {PurePosixPath(path).parent.as_posix() for path in found.sources} - {"."}
    # What lies in the folder itself belongs to no stack.
    loose = [path for path in found.sources if "/" not in path]
    return Found(tuple(sorted(homes)), tuple(sorted((*found.others, *loose))))


def count_suffixes(paths: Iterable[str]) -> dict[str, int]:
    """How many files end in each suffix, in lower case ("": none), the most frequent first.

    What begins with a digit is no suffix: DICOM files are often numbered so.
    """
    suffixes = (PurePosixPath(path).suffix.lower() for path in paths)
    return dict(Counter(text if re.match(r"\.[a-z]", text) else "" for text in suffixes).most_common())


def choose(sources: Iterable[str], dataset: Dataset) -> tuple[list[str], list[str]]:
    """The sources that ``include`` and ``exclude`` leave, and the others."""
    chosen: list[str] = []
    excluded: list[str] = []
    for source in sources:
        wanted = not dataset.include or any(matches_glob(source, glob) for glob in dataset.include)
        unwanted = any(matches_glob(source, glob) for glob in dataset.exclude)
        (chosen if wanted and not unwanted else excluded).append(source)
    return chosen, excluded


def _refuse_folder(error: OSError) -> None:
    raise ResourceError.of(
        error.filename, Code.UNREADABLE, str(error.strerror), "check its permissions"
    ) from None


def check_folder(dataset: Dataset) -> None:
    """Refuse a folder of sources that is not there. Raises ConfigError with code no-folder."""
    try:
        is_folder = dataset.path.is_dir()
        reason = "it is not a folder" if dataset.path.exists() else "there is no such folder"
    except OSError as error:
        is_folder, reason = False, str(error.strerror)
    if not is_folder:
        remedy = f"correct `path` of dataset {dataset.name}, or put the sources there"
        raise ConfigError.of(dataset.path, Code.NO_FOLDER, reason, remedy)


def check_names(folder: Path, sources: list[str]) -> tuple[list[str], list[Quarantined]]:
    """The sources with usable names, and the others as quarantined: not UTF-8, or with control characters."""
    shown = {source: printable(source) for source in sources}
    bad = [Quarantined(text, _bad_name(folder, source)) for source, text in shown.items() if source != text]
    return [source for source, text in shown.items() if source == text], bad


def _bad_name(folder: Path, source: str) -> Problem:
    try:
        source.encode("utf-8")
    # Python gives such a name with surrogates in place of its bytes, which no encoding takes.
    except UnicodeEncodeError:
        reason = "its name is not UTF-8"
    else:
        reason = CONTROL
    return Problem(str(folder / source), Code.BAD_NAME, reason, "rename it")


def sample_ids(sources: list[str], suffixes: tuple[str, ...]) -> dict[str, str]:
    """Source → id: its name without suffix, or the whole source where several have that name."""
    stems = {source: stem_of(PurePosixPath(source).name, suffixes) for source in sources}
    shared = Counter(stems.values())
    return {source: stem if shared[stem] == 1 else source for source, stem in stems.items()}


def stem_of(name: str, suffixes: tuple[str, ...]) -> str:
    """A file name without its suffix, if it is one of these in any letter case."""
    suffix = next((suffix for suffix in suffixes if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)] or name


def ambiguous_ids(folder: Path, ids: Mapping[str, str]) -> Iterator[Problem]:
    """Ids that differ only by letter case or Unicode form: not every file system can tell them apart."""
    same = defaultdict(list)
    for source, sample in ids.items():
        # macOS keeps names in decomposed form, Windows ignores letter case: there the two would be one file.
        same[unicodedata.normalize("NFC", sample).casefold()].append(source)
    for sources in same.values():
        if len(sources) > 1:
            reason = f"the ids of {', '.join(sources)} differ only by letter case or Unicode form"
            yield Problem(str(folder / sources[0]), Code.AMBIGUOUS_ID, reason, "rename or remove all but one")
