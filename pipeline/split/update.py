"""What `viptt split` is going to do for a dataset, known before anything is written.

A split file that is there is evidence: results were reported on it. It is replaced only when that is
asked for, and a file that is not one of ours never is.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError, IntegrityError, Problem
from pipeline.freshness import check_fresh
from pipeline.split.assignment import equal_folds
from pipeline.split.centres import assign_by_centre
from pipeline.split.check import check_split, require_store
from pipeline.split.describe import split_table
from pipeline.split.file import Split, is_split_file, read_split, split_document, split_json, write_file
from pipeline.split.interchange import export_texts
from pipeline.split.make import choose_fold, given_split, import_split, make_split
from pipeline.split.terms import CENTRES, GIVEN, TEST, TRAIN, Lists

if TYPE_CHECKING:
    from pipeline.catalog.schema import Dataset
    from pipeline.store import Store


@dataclass(frozen=True)
class Request:
    """What is asked for, of each dataset alike. Raises ConfigError for options that exclude each other.

    ``check`` looks for leaks and ``export`` writes another tool's lists, both of the split that is there;
    otherwise one is assigned, or taken from the file ``given``. ``fold`` makes train and val of folds.
    """

    check: bool = False
    export: str | None = None
    out: Path | None = None
    given: Path | None = None
    folds: int | None = None
    fold: int | None = None
    force: bool = False
    stale_ok: bool = False

    def __post_init__(self) -> None:
        if self.reads and (self.given or self.folds):
            reason = "--check and --export take the split that is there, and assign none"
            raise ConfigError.of("viptt split", "bad-option", reason, "leave out --import and --folds")
        if self.out and not self.export:
            reason = "--out is the folder for --export"
            raise ConfigError.of("viptt split", "bad-option", reason, "add --export FORMAT")

    @property
    def reads(self) -> bool:
        """Whether the split that is there is taken, and left as it is."""
        return self.check or self.export is not None


@dataclass(frozen=True)
class Update:
    """What is going to be done for one dataset: ``files`` are to be written, ``changes`` says why."""

    dataset: str
    file: Path
    split: Split
    files: Mapping[Path, bytes]
    changes: str
    problems: tuple[Problem, ...]


def plan_updates(datasets: "Sequence[Dataset]", request: Request) -> list[Update]:
    """Find out what to do, and whether all of it can be done; nothing is written.

    Raises ConfigError or IntegrityError: for a store that is missing or stale, lists that do not fit it, a
    file that would be replaced without ``force``, or one that is not ours.
    """
    # One list of ids fits one store, and files of two datasets would have the same names.
    if (request.given or request.out) and len(datasets) != 1:
        raise ConfigError.of(
            "viptt split", "bad-option", "--import and --out are for one dataset", "name the dataset"
        )
    updates = [_plan(dataset, request) for dataset in datasets]
    times = Counter(path for update in updates for path in update.files)
    shared = sorted(str(path) for path, count in times.items() if count > 1)
    if shared:
        reason = "several datasets would be written to this one file"
        raise ConfigError.of(
            shared[0], "same-file", reason, "name one dataset, and give it a folder with --out"
        )
    return updates


def write_update(update: Update) -> list[str]:
    """Write the files of an update; lines on what was done, and on what to know of the split."""
    lines = []
    changes = f" ({update.changes})" if update.changes else ""
    for path, content in update.files.items():
        write_file(path, content)
        lines.append(f"{update.dataset}: wrote {path}{changes}")
    if changes and not update.files:
        lines.append(f"{update.dataset}: {update.file}: {update.changes}")
    return [*lines, *(f"warning: {warning}" for warning in update.split.warnings)]


def updates_json(updates: Sequence[Update]) -> dict[str, Any]:
    """Splits and problems, for scripts."""
    return {
        "splits": [split_document(update.split) for update in updates],
        "problems": [asdict(problem) for update in updates for problem in update.problems],
    }


def updates_text(updates: Sequence[Update]) -> str:
    """The tables of the splits, for people."""
    return "\n\n".join(f"{update.split.dataset}\n{split_table(update.split)}" for update in updates)


def _plan(dataset: "Dataset", request: Request) -> Update:
    from pipeline.store import open_store  # brings NumPy and Zarr with it

    store, file = open_store(dataset.store), dataset.split.file
    if not request.stale_ok:
        check_fresh(dataset.recipe_json, dataset.class_names, store.header, where=dataset.store)
    if request.reads:  # an export must be of the split that results were reported on
        return _plan_reading(dataset, store, request)
    before = _replaceable(file, request)
    split = _wanted_split(dataset, store, request)
    if before is not None and _same(before, split):
        return Update(dataset.name, file, before, {}, "nothing to do, it is the same split", ())
    changes = _changes(before, split) if before else ""
    if before and not request.force and not _accepted(file, request):
        reason = f"another split is there; replacing it: {changes}"
        raise ConfigError.of(file, "split-exists", reason, "add --force to replace it, or keep it")
    return Update(dataset.name, file, split, {file: split_json(split).encode()}, changes, ())


def _plan_reading(dataset: "Dataset", store: "Store", request: Request) -> Update:
    file = dataset.split.file
    split = read_split(file)
    problems = tuple(check_split(split, store, where=file)) if request.check else ()
    if request.fold is not None:
        split = choose_fold(split, request.fold)
    files = {}
    if request.export:
        require_store(split, store, where=file)
        texts = export_texts(split, store, request.export)
        folder = request.out or file.parent
        files = {folder / name: text.encode("utf-8", "surrogateescape") for name, text in texts.items()}
        _check_targets(files, file, force=request.force)
    return Update(dataset.name, file, split, files, "", problems)


def _check_targets(files: Mapping[Path, bytes], split_file: Path, *, force: bool) -> None:
    """Refuse to export over the split itself, or, without force, over a file of other content."""
    for path, content in files.items():
        if path.resolve() == split_file.resolve():
            raise IntegrityError.of(path, "not-ours", "the split itself lies there", "give another --out")
        if path.exists() and not force and not (path.is_file() and path.read_bytes() == content):
            reason = "a file of other content is there"
            raise ConfigError.of(
                path, "file-exists", reason, "add --force to replace it, or give another --out"
            )


def _replaceable(file: Path, request: Request) -> Split | None:
    """The split that is there; nothing where there is none, or one that cannot be read is to be replaced."""
    if not file.exists():
        return None
    if not is_split_file(file):
        reason = "a file that is not a split of viptt is in its place, and viptt does not replace it"
        raise IntegrityError.of(file, "not-ours", reason, "choose another `split: file`, or move it away")
    # A damaged split may still be somebody's record: it goes only when told to.
    try:
        return read_split(file, edited=_accepted(file, request))
    except IntegrityError:
        if request.force:
            return None
        raise


def _accepted(file: Path, request: Request) -> bool:
    """Whether the file itself is imported: an edit by hand is accepted so."""
    return request.given is not None and request.given.resolve() == file.resolve()


def _wanted_split(dataset: "Dataset", store: "Store", request: Request) -> Split:
    """A split as catalog and options ask for; the test split of an earlier one stays as it is."""
    if request.given:
        return import_split(request.given, store, fold=request.fold)
    plan, folds = dataset.split, request.folds or dataset.split.folds
    if plan.method == GIVEN:
        return given_split(store, _listed(dataset, store))
    if plan.method == CENTRES:
        return given_split(store, _by_centre(dataset, store), method=CENTRES)
    split = make_split(
        store,
        fractions=equal_folds(folds) if folds else plan.fractions,
        seed=plan.seed,
        method=None if plan.method == "auto" else plan.method,
        grouped=plan.group == "auto",
        # Scores on a test split compare only while it stays the same, even under --force.
        frozen=read_split(plan.file) if plan.file.exists() and TEST in plan.fractions else None,
    )
    return split if request.fold is None else choose_fold(split, request.fold)


def _listed(dataset: "Dataset", store: "Store") -> Lists:
    """The splits that the lists of the labels give, without what is in quarantine."""
    from pipeline.sources.picture_labels import split_of_lists

    there = {row.id for row in store.rows}
    lists = split_of_lists(dataset)
    return {name: [sample for sample in ids if sample in there] for name, ids in lists.items()}


def _by_centre(dataset: "Dataset", store: "Store") -> Lists:
    """The splits by patient and centre; stacks that no table lists are trained on."""
    from pipeline.sources.groups import patients_and_centres

    assert dataset.groups is not None, "the catalog lets no other dataset have this method"
    patients, exams = patients_and_centres(dataset.groups)
    homes = assign_by_centre(patients, {exam.video: exam.centre for exam in exams}, dataset.split.fractions)
    by_name = {name: homes[exam.video] for exam in exams for name in (exam.video, exam.folder)}
    lists: dict[str, list[str]] = {name: [] for name in dataset.split.fractions}
    for row in store.rows:
        stack = row.stack or row.id
        names = (stack, PurePosixPath(stack).name)
        lists[next((by_name[name] for name in names if name in by_name), TRAIN)].append(row.id)
    return lists


def _same(before: Split, after: Split) -> bool:
    """Whether two splits differ by nothing but the wording of their warnings."""
    return split_json(before, warnings=False) == split_json(after, warnings=False)


def _changes(before: Split, after: Split) -> str:
    old, new = _homes(before), _homes(after)
    moved = sum(old[sample] != new[sample] for sample in old.keys() & new.keys())
    added, removed = len(new.keys() - old.keys()), len(old.keys() - new.keys())
    return f"{moved} samples moved, {added} added, {removed} removed"


def _homes(split: Split) -> dict[str, str]:
    return {sample: name for name, ids in split.parts.items() for sample in ids}
