"""The command line: one command, one call. Nothing is computed here, and nothing heavy is imported early.

Data goes to stdout, messages and progress to stderr.
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.framework import load_framework
from model.options import settings_options
from model.settings import Settings, settings_for
from pipeline import __version__, console

if TYPE_CHECKING:
    from model.predict import Ensemble
    from model.predictions import Prediction
    from pipeline.build import Plan, Summary
    from pipeline.catalog import NiftiDataset, VideoDataset
    from pipeline.quarantine import Quarantined
    from pipeline.split import Split
    from pipeline.status import Status
    from pipeline.store import Store
    from pipeline.task import Result
    from pipeline.verify import Verification

QUARANTINED, DAMAGED = 3, 4


_DATASETS = click.argument("names", metavar="[DATASET]...", nargs=-1)
_FILE = click.Path(path_type=Path, dir_okay=False)
_ALLOW_MISSING = click.option(
    "--allow-missing", is_flag=True, help="Quarantine files without a label and labels without a file."
)
_WORKERS = click.option(
    "--workers", type=click.IntRange(min=1), help="Processes (or threads).  [default: all cores]"
)
_TIMEOUT = click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds for one source (local workers).",
)
_MEMORY_LIMIT = click.option(
    "--memory-limit",
    "memory",
    default="auto",
    show_default=True,
    help="Memory of one worker, such as 4GB (local workers).",
)


HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group("viptt", cls=console.Commands, context_settings=HELP)
@click.version_option(__version__, prog_name="viptt")
@console.common
def main() -> None:
    """Turn CT scans and videos into cached tensors, split them, and train ViPTT-Net on them.

    DATASET names entries of the catalog; none means all.
    """


def _datasets(names: tuple[str, ...]) -> "tuple[NiftiDataset | VideoDataset, ...]":
    from pipeline.catalog import load_catalog, select

    return select(load_catalog(console.settings().catalog), names)


# --- check --------------------------------------------------------------------------------------


@main.command()
@_DATASETS
@click.option("--deep", is_flag=True, help="Read every byte, not the headers alone.")
@_ALLOW_MISSING
@console.common
def check(names: tuple[str, ...], deep: bool, allow_missing: bool) -> int:
    """Read catalog, labels and headers; report counts, shapes, orientations and problems."""
    from pipeline.check import as_json, table
    from pipeline.check import check as inspect

    inspections = [inspect(dataset, deep=deep, allow_missing=allow_missing) for dataset in _datasets(names)]
    for inspection in inspections:
        console.tell_problems([item.problem for item in inspection.bad])
        console.say_warnings([*inspection.listing.warnings, *inspection.doubtful])
    document = {"datasets": [as_json(inspection) for inspection in inspections]}
    console.emit(document, "\n\n".join(table(inspection) for inspection in inspections))
    return QUARANTINED if any(inspection.bad for inspection in inspections) else 0


# --- build --------------------------------------------------------------------------------------


@main.command()
@_DATASETS
@_WORKERS
@click.option(
    "--scheduler",
    default="local",
    show_default=True,
    metavar="local|threads|sync|tcp://HOST:PORT",
    help="Where to run: processes or threads on this machine, this process alone, or a Dask cluster.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first samples, by id.")
@click.option(
    "--max-bad",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="Publish nothing if more than this fraction of the sources is bad.",
)
@click.option("--strict", is_flag=True, help="Publish nothing if any source is bad: --max-bad 0.")
@_TIMEOUT
@_MEMORY_LIMIT
@_ALLOW_MISSING
@console.common
def build(
    names: tuple[str, ...],
    workers: int | None,
    scheduler: str,
    dry_run: bool,
    limit: int | None,
    max_bad: float,
    strict: bool,
    timeout: float,
    memory: str,
    allow_missing: bool,
) -> int:
    """Convert sources to a store: the Dask pipeline. Run it again to resume, or to add what changed."""
    from pipeline import build as builder

    if scheduler not in ("local", "threads", "sync") and "://" not in scheduler:
        raise click.UsageError(f"--scheduler is local, threads, sync or tcp://HOST:PORT, not {scheduler}")
    options = builder.Options(
        workers=workers or os.cpu_count() or 1,
        scheduler=scheduler,
        limit=limit,
        max_bad=0.0 if strict else max_bad,
        allow_missing=allow_missing,
        timeout=timeout,
        memory=memory,
    )
    plans = [builder.make_plan(dataset, options) for dataset in _datasets(names)]
    for plan in plans:
        _say_plan(plan)
    if dry_run:
        console.emit({"datasets": [builder.plan_json(plan) for plan in plans]}, "")
        return 0
    summaries = []
    for plan in plans:
        with console.progress(plan.dataset.name, len(plan.samples), "sources") as report:
            summaries.append(builder.build(plan, options, report=_read_by(report)))
        _say_summary(summaries[-1])
    console.emit({"datasets": [builder.summary_json(summary) for summary in summaries]}, "")
    return QUARANTINED if any(summary.quarantined for summary in summaries) else 0


def _say_plan(plan: "Plan") -> None:
    shape = " x ".join(map(str, plan.header.shape))
    console.say(
        f"{plan.dataset.name}: {len(plan.samples)} sources, {_size(plan.source_bytes)} → "
        f"{plan.dataset.store}, volumes {shape} {plan.header.recipe['dtype']}, {_size(plan.store_bytes)}"
    )
    left_out = plan.listing.left_out
    if left_out:
        console.say(
            f"{plan.dataset.name}: left out {sum(left_out.values())} files of {len(left_out)} other classes"
        )


def _say_summary(summary: "Summary") -> None:
    name = summary.plan.dataset.name
    console.say_warnings(summary.warnings)
    console.tell_problems([item.problem for item in summary.quarantined])
    if not summary.published:
        console.say(
            f"{name}: nothing to do, {summary.samples} samples are up to date ({summary.seconds:.1f} s)"
        )
    else:
        rate = summary.source_bytes / summary.seconds / 1e6
        console.say(
            f"{name}: {summary.samples} samples in {summary.seconds:.1f} s, {rate:.1f} MB/s of sources; "
            f"{summary.converted} converted, {summary.reused} kept from before"
        )
    if summary.quarantined:
        where = summary.plan.dataset.quarantine_file
        console.say(f"{name}: {len(summary.quarantined)} sources quarantined, listed in {where}")


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _read_by(report: console.Report) -> "Callable[[Result], None]":
    return lambda result: report(result.source_bytes)


# --- status and verify --------------------------------------------------------------------------


@main.command()
@_DATASETS
@click.option("--quick", is_flag=True, help="Do not compare the sources' contents.")
@console.common
def status(names: tuple[str, ...], quick: bool) -> int:
    """Say for each dataset whether its store is built, stale (and why), missing, or damaged."""
    from pipeline.status import status as find_status

    found = [find_status(dataset, quick=quick) for dataset in _datasets(names)]
    console.emit(
        {"datasets": [asdict(item) for item in found]}, "\n".join(_status_text(item) for item in found)
    )
    return DAMAGED if any(item.state == "damaged" for item in found) else 0


def _status_text(item: "Status") -> str:
    lines = [f"{item.dataset}: {item.state}, {item.samples} samples, {item.quarantined} sources quarantined"]
    lines += [f"  {reason}" for reason in item.reasons]
    if item.unfinished:
        lines.append(
            f"  an unfinished build has done {item.unfinished} sources; `viptt build` goes on from there"
        )
    return "\n".join(lines)


@main.command()
@_DATASETS
@click.option("--quick", is_flag=True, help="Compare sizes only, not bytes.")
@click.option("--repair", is_flag=True, help="Build again what is damaged, from its sources.")
@click.option("--strict", is_flag=True, help="Files that do not belong to the store are an error, too.")
@console.common
def verify(names: tuple[str, ...], quick: bool, repair: bool, strict: bool) -> int:
    """Check every byte of the stores, and of their features, against the hashes of their publishing."""
    from pipeline.store import features_of, is_store
    from pipeline.verify import verify as check_store

    found = []
    for dataset in _datasets(names):
        features = features_of(dataset.store)
        for store in (dataset.store, features) if is_store(features) else (dataset.store,):
            found.append(check_store(store, quick=quick, threads=os.cpu_count() or 1))
            console.tell_problems(found[-1].damaged)
            for name in found[-1].unexpected:
                console.say(f"warning: {store / name}: unexpected: it is no part of the store → remove it")
            if repair and found[-1].damaged and store == dataset.store:
                found[-1] = _repaired(dataset, found[-1])
    document = [{**asdict(item), "store": str(item.store)} for item in found]
    console.emit({"stores": document}, "\n".join(_verification_text(item, quick) for item in found))
    return DAMAGED if any(item.damaged or (strict and item.unexpected) for item in found) else 0


def _repaired(dataset: "NiftiDataset | VideoDataset", before: "Verification") -> "Verification":
    """A build keeps what is intact and converts the rest again; then the store is checked once more."""
    from pipeline import build as builder
    from pipeline.verify import verify as check_store

    options = builder.Options(workers=os.cpu_count() or 1)
    plan = builder.make_plan(dataset, options)
    with console.progress(plan.dataset.name, len(plan.samples), "sources") as report:
        _say_summary(builder.build(plan, options, report=_read_by(report)))
    return check_store(before.store, threads=options.workers)


def _verification_text(item: "Verification", quick: bool) -> str:
    how = "sizes compared" if quick else f"{_size(item.nbytes)} read and hashed"
    state = f"{len(item.damaged)} damaged" if item.damaged else "intact"
    return f"{item.store}: {state}, {item.samples} samples, {how}"


# --- split --------------------------------------------------------------------------------------


@main.command()
@_DATASETS
@click.option("--check", "only_check", is_flag=True, help="Write nothing; find leaks in the split file.")
@click.option(
    "--export", "form", metavar="FORMAT", help="Also write it as nnunet, ucf, covidx, monai or csv."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for --export.")
@click.option("--import", "given", type=click.Path(path_type=Path), help="Take the parts from a file.")
@click.option(
    "--folds", type=click.IntRange(min=2), help="Draw so many equal parts.  [default: the catalog's]"
)
@click.option("--fold", type=click.IntRange(min=0), help="Of folds, drawn or imported: this one validates.")
@console.common
def split(
    names: tuple[str, ...],
    only_check: bool,
    form: str | None,
    out: Path | None,
    given: Path | None,
    folds: int | None,
    fold: int | None,
) -> int:
    """Divide stores into parts, stratified and grouped, and write the split files."""
    from pipeline.split import check_split, export_split, import_split, read_split, split_table, write_split
    from pipeline.store import open_store

    datasets = _datasets(names)
    if (given or out) and len(datasets) != 1:
        raise click.UsageError("--import and --out are for one dataset; name it")
    splits, problems = [], []
    for dataset in datasets:
        store, file = open_store(dataset.store), dataset.split.file
        if only_check:
            splits.append(read_split(file))
        else:
            drawn = import_split(given, store, fold=fold) if given else _draw(dataset, store, folds, fold)
            splits.append(drawn)
            write_split(file, splits[-1])
            console.say(f"{dataset.name}: wrote {file}")
        for warning in splits[-1].warnings:
            console.say(f"warning: {warning}")
        problems += check_split(splits[-1], store, where=file) if only_check else []
        if form:
            for path in export_split(splits[-1], store, form, out or file.parent):
                console.say(f"{dataset.name}: wrote {path}")
    console.tell_problems(problems)
    document = {
        "splits": [_split_document(item) for item in splits],
        "problems": [asdict(p) for p in problems],
    }
    console.emit(document, "\n\n".join(f"{item.dataset}\n{split_table(item)}" for item in splits))
    return DAMAGED if problems else 0


def _split_document(split: "Split") -> dict[str, Any]:
    from pipeline.split_formats import split_json

    document: dict[str, Any] = json.loads(split_json(split))
    return document


def _draw(
    dataset: "NiftiDataset | VideoDataset", store: "Store", folds: int | None, fold: int | None
) -> "Split":
    """A split as catalog and options ask for; the test part of an earlier one stays as it is."""
    from pipeline.split import choose_fold, equal_folds, make_split, read_split

    plan, folds = dataset.split, folds or dataset.split.folds
    drawn = make_split(
        store,
        fractions=equal_folds(folds) if folds else plan.fractions,
        seed=plan.seed,
        method=None if plan.method == "auto" else plan.method,
        grouped=plan.group == "auto",
        frozen=read_split(plan.file) if plan.file.exists() and "test" in plan.fractions else None,
    )
    return drawn if fold is None else choose_fold(drawn, fold)


# --- features, train, evaluate ------------------------------------------------------------------

_FOLDER = click.Path(path_type=Path)
_RUN = click.argument("run", type=_FOLDER)
_READ_BY, _FORMS = click.Choice(["local", "threads", "sync"]), click.Choice(["savedmodel", "onnx"])
_BATCH_SIZE = click.option("--batch-size", type=click.IntRange(min=1), default=2, show_default=True)
_STALE_OK = click.option(
    "--stale-ok", is_flag=True, help="Use the store even if the catalog asks for another recipe or classes."
)


@main.command()
@click.argument("name", metavar="DATASET")
@settings_options("model", "weights", "seed")
@_STALE_OK
@console.common
def features(name: str, stale_ok: bool, **options: Any) -> int:
    """Store the output of the frozen backbone for a dataset, for `viptt train --from-features`."""
    from pipeline.derive import derive, derived_text
    from pipeline.status import open_fresh

    settings = Settings(**_given(options))
    (dataset,) = _datasets((name,))
    store = open_fresh(dataset, stale_ok=stale_ok, warn=console.say_warnings)
    _load_framework()
    from model.features import extractor
    from model.run_folder import versions

    with redirect_stdout(sys.stderr):  # Keras prints its downloads on stdout
        made = extractor(settings, store)
    created_with = {"viptt": __version__, **versions()}
    with console.progress(name, len(store.rows), "samples") as report:
        derived = derive(store, made.compute, made.recipe, created_with=created_with, report=report)
    console.say_warnings(derived.warnings)
    console.say(f"{name}: {derived_text(derived)}")
    console.emit({**asdict(derived), "path": str(derived.path), "seconds": round(derived.seconds, 3)}, "")
    return 0


@main.command()
@click.argument("name", metavar="DATASET")
@settings_options()
@click.option("--run", "folder", type=_FOLDER, help="Folder of the run.  [default: runs/DATASET]")
@click.option("--resume", is_flag=True, help="Continue the run at its last checkpoint.")
@_STALE_OK
@console.common
def train(name: str, folder: Path | None, resume: bool, stale_ok: bool, **options: Any) -> int:
    """Train a network on the splits train and val of a dataset."""
    from pipeline.status import open_fresh

    given = _given(options)
    Settings(**given)  # a wrong option is reported before a store that is missing
    (dataset,) = _datasets((name,))
    store = open_fresh(dataset, stale_ok=stale_ok, warn=console.say_warnings)
    _load_framework()
    from model import training

    with redirect_stdout(sys.stderr):  # Keras prints its downloads on stdout
        run = training.train(
            store.path,
            dataset.split.file,
            folder or Path("runs") / name,
            settings_for(store.header.recipe, **given),
            resume=resume,
            # Both tell `viptt split` to leave groups out of account.
            leaks_ok=dataset.split.group == "none" or dataset.split.method != "auto",
            say=console.say,
            bar=partial(console.progress, what="steps") if sys.stderr.isatty() else training.no_bar,
        )
    console.emit({"run": str(run)}, "")
    console.say(f"{name}: the run is in {run}; next: viptt evaluate {run}")
    return 0


@main.command()
@_RUN
@click.argument("name", metavar="[DATASET]", required=False)
@click.option("--split", default="val", show_default=True, help="Name of the split to predict.")
@_BATCH_SIZE
@_STALE_OK
@console.common
def evaluate(run: Path, name: str | None, stale_ok: bool, **options: Any) -> int:
    """Score a run: kappa, accuracy, F1 of each class, confusion matrix."""
    from pipeline.status import open_fresh

    if name:
        (dataset,) = _datasets((name,))
        open_fresh(dataset, stale_ok=stale_ok, warn=console.say_warnings)
        options |= {"store": dataset.store, "split_file": dataset.split.file}
    _load_framework()
    from model import evaluate as evaluation

    found = evaluation.evaluate(run, say=console.say, **options)
    _emit_table(asdict(found), evaluation.table(found))
    return 0


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _load_framework(*, figures: bool = False) -> None:
    load_framework(verbose=console.settings().verbosity > 0, figures=figures)


def _emit_table(document: Any, table: str) -> None:
    """The result as JSON, or as a table unless ``-q`` asks for none."""
    console.emit(document, "" if console.settings().verbosity < 0 else table)


# --- predict ------------------------------------------------------------------------------------


@main.command()
@_RUN
@click.argument("inputs", metavar="(DATASET|FILE...)", nargs=-1, required=True)
@click.option("--with", "others", metavar="RUN", multiple=True, type=_FOLDER, help="A run to average with.")
@click.option("--split", help="Name of a split of the dataset.  [default: all samples]")
@click.option("--out", type=_FILE, help="Write the table there, and a list of quarantined files beside it.")
@click.option("--submission", type=_FILE, help="Also write lines `NAME.nii.gz,CLASS`, as ImageCLEF takes.")
@click.option("--explain", type=_FOLDER, help="Folder for a picture of the slices each decision rests on.")
@_BATCH_SIZE
@_WORKERS
@click.option("--scheduler", type=_READ_BY, default="local", show_default=True, help="Where to read files.")
@_TIMEOUT
@_MEMORY_LIMIT
@console.common
def predict(
    run: Path,
    inputs: tuple[str, ...],
    others: tuple[Path, ...],
    split: str | None,
    out: Path | None,
    submission: Path | None,
    explain: Path | None,
    batch_size: int,
    **reading: Any,
) -> int:
    """Predict the samples of a dataset's store, or new files by the run's own recipe.

    A FILE may be a folder: all sources below it. Write `./NAME` for a path that is also a dataset.
    """
    from pipeline.inputs import named_dataset
    from pipeline.quarantine import write_quarantine

    dataset = named_dataset(inputs, console.settings().catalog, split=split)
    _load_framework(figures=explain is not None)
    from model import predictions
    from model.predict import load_ensemble, predict_dataset

    predictions.check_targets(out, submission, pictures=explain)
    ensemble = load_ensemble((run, *others), explained=explain is not None, say=console.say)
    how: dict[str, Any] = {"batch_size": batch_size, "pictures": explain, "submission": submission}
    bad: list[Quarantined] = []
    if dataset:
        place = (dataset.store, dataset.split.file, split)
        found = predict_dataset(ensemble, *place, say=console.say, **how)
    else:
        found, bad = _predict_files(ensemble, inputs, reading, **how)
    console.tell_problems([item.problem for item in bad])
    classes = ensemble.data.classes
    predictions.write(found, classes, out=out, submission_file=submission)
    if out:
        write_quarantine(out.with_name(out.name.removesuffix(".csv") + ".quarantine.csv"), bad)
    document = predictions.document((run, *others), classes, found, bad)
    console.emit(document, "" if out else predictions.table(found, classes))
    return QUARANTINED if bad else 0


def _predict_files(
    ensemble: "Ensemble",
    inputs: tuple[str, ...],
    reading: dict[str, Any],
    *,
    submission: Path | None,
    **how: Any,
) -> "tuple[list[Prediction], list[Quarantined]]":
    """Predict files, each as soon as it is converted; also give those that cannot be converted."""
    from model.predict import predict_volumes
    from model.predictions import check_submission
    from pipeline.build import Options
    from pipeline.inputs import new_files

    new = new_files(inputs, ensemble.data.recipe)
    if submission:
        check_submission([file.source for file in new.files])
    console.say(f"predicting {len(new.files)} files")
    options = Options(**{**reading, "workers": reading["workers"] or os.cpu_count() or 1})
    with console.progress("predict", len(new.files), "files") as report:
        volumes = new.volumes(options, report=_read_by(report), warn=console.say_warnings)
        found = list(predict_volumes(ensemble, volumes, **how))
    if submission and new.bad:
        console.say(f"warning: {submission}: {len(new.bad)} files have no line in it")
    return found, new.bad


# --- compare and export -------------------------------------------------------------------------


@main.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=_FOLDER)
@console.common
def compare(runs: tuple[Path, ...]) -> int:
    """Show evaluated runs side by side, with the paper's tables."""
    from model import compare as comparison

    rows = comparison.compare(runs)
    _emit_table({"runs": [asdict(row) for row in rows]}, comparison.comparison_table(rows))
    return 0


@main.command()
@_RUN
@click.option("--out", required=True, type=_FOLDER, help="Folder, new or empty.")
@click.option("--to", "form", type=_FORMS, default="savedmodel", show_default=True, help="Form to write.")
@console.common
def export(run: Path, out: Path, form: str) -> int:
    """Write a run as a model that takes one raw volume of any size, and does not need viptt."""
    _load_framework()
    from model.export import export_onnx, export_saved_model

    write = export_onnx if form == "onnx" else export_saved_model
    with redirect_stdout(sys.stderr):  # the converters print what they do
        write(run, out)
    console.emit({"out": str(out), "to": form}, "")
    console.say(f"{run}: exported to {out}")
    return 0


# --- demo ---------------------------------------------------------------------------------------


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--no-train", is_flag=True, help="Stop before training, which needs TensorFlow.")
@console.common
def demo(folder: Path, no_train: bool) -> int:
    """Write generated scans and clips with a catalog into DIR, then run the whole chain on them."""
    from pipeline.demo import write_demo

    console.say(f"writing generated scans and clips into {folder}")
    catalog = write_demo(folder)
    for command in _demo_commands(folder, no_train):
        console.say(f"\n$ viptt {' '.join(command)}")
        arguments = [*command, "--catalog", str(catalog)] + ["--quiet"] * (console.settings().verbosity < 0)
        code: int | None = main.main(arguments, standalone_mode=False)
        if code:
            return code
    return 0


def _demo_commands(folder: Path, no_train: bool) -> list[list[str]]:
    clips, scans = str(folder / "runs/clips"), str(folder / "runs/ct")
    small = [
        "--model",
        "viptt-net-small",
        "--weights",
        "none",
        "--optimizer",
        "adam",
        "--learning-rate",
        "0.0005",
    ]
    small += ["--batch-size", "4", "--plateau-patience", "40", "--stop-patience", "40"]
    tuned = ["--strategy", "pt+cw+aug", "--init", clips]
    prepare = [["check"], ["build"], ["split"], ["verify"]]
    learn = [
        ["train", "demo_clips", *small, "--no-freeze", "--epochs", "15", "--run", clips],
        ["evaluate", clips],
        ["train", "demo_ct", *small, *tuned, "--epochs", "40", "--run", scans],
        ["evaluate", scans],
    ]
    return prepare if no_train else prepare + learn


if __name__ == "__main__":
    main()
