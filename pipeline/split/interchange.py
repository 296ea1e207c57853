"""Split files: viptt's own, and the lists that others keep.

    json     viptt's: strict, with a hash of itself
    nnunet   splits_final.json: a list of {"train": [id], "val": [id]}, one per fold; "test" is ours
    ucf      <split>listNN.txt: "Class/v_Class_gNN_cNN.avi 1" (test: without the number), and classInd.txt
    covidx   <split>_COVIDx_CT-<version>.txt: "file class xmin ymin xmax ymax"
    monai    datalist: {"training": [{"image", "label", "fold"}], "testing": [...]}; "id" and "part" are ours
    csv      id,part,label,group

Readers give the lists as they are: name of the split → ids, in the order of the file. A name in a list
stands for the sample with that id, that source, or that file name, with or without suffixes.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError, IntegrityError, some
from pipeline.escape import cell_text, table_cell
from pipeline.split.file import Split, read_split, write_file
from pipeline.split.strict import is_text, list_of, map_of, read_json
from pipeline.split.terms import ASSIGN_AGAIN, TEST, TRAIN, VAL

if TYPE_CHECKING:
    from pipeline.store import Row, Store

Files = Mapping[str, str]  # file name → text


Rows = Mapping[str, "Row"]  # id → row


UCF_NAME = re.compile(r"(?P<part>[A-Za-z][\w-]*?)list(?P<number>\d+)\.txt")


COVIDX_NAME = re.compile(r"(?P<before>.*?)(?P<part>train|val|test)(?P<after>_COVIDx.*\.txt)")


FOLD_NAME = re.compile(r"fold-(\d+)")


def format_of(path: Path) -> str:
    """Which of the formats a file is in, by its name and its outermost brackets."""
    if path.suffix == ".csv":
        return "csv"
    if path.suffix == ".txt" and UCF_NAME.fullmatch(path.name):
        return "ucf"
    if path.suffix == ".txt" and COVIDX_NAME.fullmatch(path.name):
        return "covidx"
    document = read_json(path) if path.suffix == ".json" else None
    if isinstance(document, list):
        return "nnunet"
    for key, name in (("splits", "json"), ("training", "monai")):
        if isinstance(document, dict) and key in document:
            return name
    remedy = f"give a file of one of these: json, {', '.join(EXPORTS)}"
    raise IntegrityError.of(path, "split-foreign", "it is in no format that viptt reads", remedy)


def read_lists(path: Path, store: "Store", *, fold: int | None = None) -> dict[str, list[str]]:
    """Name → ids from a file in any of the formats; names that the store lacks stay as they are.

    The other splits of UCF and COVIDx-CT lists are found beside the file. ``fold`` makes train and val
    of the folds in nnU-Net's and MONAI's files.
    """
    lists = IMPORTS[format_of(path)](path, fold)
    known = _names(store)
    return {part: [_resolved(name, known) for name in names] for part, names in lists.items()}


def export_split(split: Split, store: "Store", form: str, folder: Path | str) -> list[Path]:
    """Write the lists of a split in another tool's format into a folder; return the files."""
    texts = export_texts(split, store, form)
    for name, text in texts.items():
        write_file(Path(folder) / name, text.encode("utf-8", "surrogateescape"))
    return [Path(folder) / name for name in texts]


def export_texts(split: Split, store: "Store", form: str) -> Files:
    """The lists of a split in another tool's format, as file name → text."""
    if form not in EXPORTS:
        reason = f"the format {form!r} is not known"
        raise ConfigError.of(split.dataset, "split-format", reason, f"use one of {', '.join(EXPORTS)}")
    rows = {row.id: row for row in store.rows}
    unknown = sorted(sample for ids in split.parts.values() for sample in ids if sample not in rows)
    if unknown:
        raise IntegrityError.of(
            split.dataset, "unknown-id", f"the store lacks {some(unknown, 'id')}", ASSIGN_AGAIN
        )
    return EXPORTS[form](split, rows, store.header.classes)


def _names(store: "Store") -> dict[str, str]:
    """What may stand for a sample → its id; a name that two samples could mean stands for none."""
    known: dict[str, str] = {}
    for alias in (
        lambda row: row.id,
        lambda row: row.source,
        lambda row: _file_name(row.source),
        lambda row: _bare(row.source),
    ):
        named = [(alias(row), row.id) for row in store.rows]
        times = Counter(name for name, _ in named)
        known = {name: sample for name, sample in named if times[name] == 1} | known
    return known


def _resolved(name: str, known: Mapping[str, str]) -> str:
    candidates = (name, _file_name(name), _bare(name))
    return next((known[candidate] for candidate in candidates if candidate in known), name)


def _file_name(source: str) -> str:
    return source.rsplit("/", 1)[-1]


def _bare(source: str) -> str:
    return re.sub(r"(\.nii\.gz|\.[A-Za-z0-9]{1,5})$", "", _file_name(source), flags=re.IGNORECASE)


def _foreign(path: Path, reason: str) -> IntegrityError:
    return IntegrityError.of(path, "split-foreign", reason, "check that the file is whole and of this format")


def _text_of(path: Path) -> str:
    if not path.is_file():
        raise IntegrityError.of(path, "split-missing", "there is no such file", "check the path")
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _lines(path: Path) -> list[str]:
    return [line.rstrip("\r") for line in _text_of(path).split("\n") if line.strip()]


def _folds(split: Split) -> list[str]:
    """The names of the folds, or nothing; a split is one of folds, or of train and val, beside test."""
    names = [name for name in split.parts if name != TEST]
    if all(FOLD_NAME.fullmatch(name) for name in names):
        return names
    if set(names) == {TRAIN, VAL}:
        return []
    reason = f"it has no place for the splits {', '.join(names)}"
    raise ConfigError.of(split.dataset, "split-parts", reason, "use splits train and val, or folds; or csv")


def _to_nnunet(split: Split, rows: Rows, classes: Sequence[str]) -> Files:
    test = {TEST: list(split.parts[TEST])} if TEST in split.parts else {}
    folds = _folds(split)
    pairs = [
        (sorted(sample for name in folds if name != val for sample in split.parts[name]), split.parts[val])
        for val in folds
    ] or [(list(split.parts[TRAIN]), split.parts[VAL])]
    entries = [{TRAIN: train, VAL: list(val), **test} for train, val in pairs]
    return {"splits_final.json": json.dumps(entries, indent=4) + "\n"}


def _from_nnunet(path: Path, fold: int | None) -> dict[str, list[str]]:
    entries = read_json(path)
    sound = list_of(map_of(list_of(is_text)))
    if not sound(entries) or not entries or not all({TRAIN, VAL} <= set(entry) for entry in entries):
        raise _foreign(path, "it is not a list of train and val lists")
    if fold is not None or len(entries) == 1:
        return dict(entries[_fold_number(path, fold or 0, len(entries))])
    vals = [sample for entry in entries for sample in entry[VAL]]
    whole = {sample for entry in entries for sample in [*entry[TRAIN], *entry[VAL]]}
    if len(vals) != len(set(vals)) or set(vals) != whole:
        reason = "its folds are not one partition of the samples"
        raise ConfigError.of(path, "split-folds", reason, "choose one of them with `--fold N`")
    lists = {f"fold-{index}": entry[VAL] for index, entry in enumerate(entries)}
    return lists | {TEST: entries[0][TEST]} if TEST in entries[0] else lists


def _fold_number(path: Path, fold: int, folds: int) -> int:
    if not 0 <= fold < folds:
        reason = f"there is no fold {fold}; it has 0 to {folds - 1}"
        raise ConfigError.of(path, "no-such-fold", reason, "choose one of them with `--fold N`")
    return fold


def _to_ucf(split: Split, rows: Rows, classes: Sequence[str]) -> Files:
    files = {"classInd.txt": "".join(f"{index} {name}\n" for index, name in enumerate(classes, start=1))}
    for part, ids in split.parts.items():
        lines = [
            f"{rows[sample].source}\n"
            if part == TEST
            else f"{rows[sample].source} {rows[sample].label + 1}\n"
            for sample in ids
        ]
        files[f"{part}list01.txt"] = "".join(lines)
    return files


def _from_ucf(path: Path, fold: int | None) -> dict[str, list[str]]:
    lists = {}
    for name, beside in _beside(path, UCF_NAME, "number"):
        lists[name] = [re.sub(r" \d+$", "", line) for line in _lines(beside)]
    return lists


def _beside(path: Path, pattern: re.Pattern[str], *same: str) -> list[tuple[str, Path]]:
    """(split, file) of the lists that belong together: train, val, test, then others by name."""
    ours = pattern.fullmatch(path.name)
    files = {}
    for other in sorted(path.parent.iterdir()):
        match = pattern.fullmatch(other.name)
        if ours and match and all(match[key] == ours[key] for key in same):
            files[match["part"]] = other
    known = [name for name in (TRAIN, VAL, TEST) if name in files]
    return [(name, files[name]) for name in [*known, *(name for name in files if name not in known)]]


def _to_covidx(split: Split, rows: Rows, classes: Sequence[str]) -> Files:
    return {
        f"{part}_COVIDx_CT-{split.dataset}.txt": "".join(_covidx_line(rows[sample]) for sample in ids)
        for part, ids in split.parts.items()
    }


def _covidx_line(row: "Row") -> str:
    facts = json.loads(row.facts)
    try:
        left, top, right, bottom = facts.get("box") or (0, 0, *reversed(facts["shape"][-2:]))
    except (KeyError, TypeError, ValueError):
        reason = "neither a box nor a shape is known of it"
        raise ConfigError.of(
            row.id, "no-box", reason, "export COVIDx-CT lists from a store of slices"
        ) from None
    return f"{_file_name(row.source)} {row.label} {left} {top} {right} {bottom}\n"


def _from_covidx(path: Path, fold: int | None) -> dict[str, list[str]]:
    lists = {}
    for name, beside in _beside(path, COVIDX_NAME, "before", "after"):
        fields = [line.split() for line in _lines(beside)]
        if any(len(field) != 6 for field in fields):
            raise _foreign(beside, "a line is not `file class xmin ymin xmax ymax`")
        lists[name] = [field[0] for field in fields]
    return lists


def _to_monai(split: Split, rows: Rows, classes: Sequence[str]) -> Files:
    """Fold 0 is val where there are no folds: MONAI trains on the folds that it does not validate on."""
    folds = _folds(split) or [VAL, TRAIN]
    order = [name for name in split.parts if name != TEST]
    training = [
        _datum(rows[sample], part) | {"fold": folds.index(part)}
        for part in order
        for sample in split.parts[part]
    ]
    testing = [_datum(rows[sample], TEST) for sample in split.parts.get(TEST, ())]
    document = {
        "name": split.dataset,
        "labels": {str(index): name for index, name in enumerate(classes)},
        "numTraining": len(training),
        "numTest": len(testing),
        "training": training,
        "testing": testing,
    }
    return {f"{split.dataset}_datalist.json": json.dumps(document, indent=1) + "\n"}


def _datum(row: "Row", part: str) -> dict[str, Any]:
    return {"image": row.source, "label": row.label, "id": row.id, "part": part}


def _from_monai(path: Path, fold: int | None) -> dict[str, list[str]]:
    document = read_json(path)
    lists: dict[str, list[str]] = {}
    for key, part in (("training", TRAIN), ("validation", VAL), ("testing", TEST), ("test", TEST)):
        for item in document.get(key, ()):
            entry = item if isinstance(item, dict) else {"image": item}
            name = entry.get("id", entry.get("image"))
            if not isinstance(name, str):
                raise _foreign(path, f"an entry of {key} names no image")
            lists.setdefault(_monai_part(entry, part, fold), []).append(name)
    return lists


def _monai_part(entry: Mapping[str, Any], part: str, fold: int | None) -> str:
    number = entry.get("fold")
    if part == TRAIN and fold is not None and number is not None:
        return VAL if number == fold else TRAIN
    if is_text(entry.get("part")):
        return str(entry["part"])
    return f"fold-{number}" if part == TRAIN and number is not None else part


def _to_csv(split: Split, rows: Rows, classes: Sequence[str]) -> Files:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "part", "label", "group"])
    for part, ids in split.parts.items():
        for sample in ids:
            row = rows[sample]
            writer.writerow(map(table_cell, [sample, part, classes[row.label], row.group]))
    return {f"{split.dataset}_split.csv": text.getvalue()}


def _from_csv(path: Path, fold: int | None) -> dict[str, list[str]]:
    reader = csv.DictReader(io.StringIO(_text_of(path).removeprefix("\ufeff"), newline=""))
    column = next((name for name in ("part", "split", "set") if name in (reader.fieldnames or ())), None)
    if column is None or "id" not in (reader.fieldnames or ()):
        raise _foreign(path, "its first line names no columns id and part (or split)")
    lists: dict[str, list[str]] = {}
    for line in reader:
        if not line["id"] or not line[column]:
            raise _foreign(path, f"line {reader.line_num} lacks the id or the split")
        lists.setdefault(cell_text(line[column]), []).append(cell_text(line["id"]))
    return lists


def _from_ours(path: Path, fold: int | None) -> dict[str, list[str]]:
    return {part: list(ids) for part, ids in read_split(path, edited=True).parts.items()}


Export = Callable[[Split, Rows, Sequence[str]], Files]


Import = Callable[[Path, int | None], Mapping[str, list[str]]]


EXPORTS: Mapping[str, Export] = {
    "nnunet": _to_nnunet,
    "ucf": _to_ucf,
    "covidx": _to_covidx,
    "monai": _to_monai,
    "csv": _to_csv,
}


IMPORTS: Mapping[str, Import] = {
    "json": _from_ours,
    "nnunet": _from_nnunet,
    "ucf": _from_ucf,
    "covidx": _from_covidx,
    "monai": _from_monai,
    "csv": _from_csv,
}
