"""The command line: one command, one call. Nothing is computed here, and nothing heavy is imported early.

Data goes to stdout, messages and progress to stderr.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline import __version__, console
from pipeline.errors import ConfigError, Problem

if TYPE_CHECKING:
    from model.predict import Ensemble, Prediction
    from pipeline.build import Summary
    from pipeline.build.convert_files import Arrival
    from pipeline.build.features import Derived
    from pipeline.build.worker import Result
    from pipeline.catalog.schema import Dataset
    from pipeline.sources import Quarantined

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
    type=console.FiniteRange(0, 10_000_000, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds for one source (local workers).",
)
_MEMORY_LIMIT = click.option(
    "--memory-limit",
    "memory",
    type=console.MemorySize(),
    default="auto",
    show_default=True,
    help="Memory of one worker, such as 4GB (local workers).",
)

_STALE_OK = click.option(
    "--stale-ok", is_flag=True, help="Go on although the catalog asks for another recipe or other classes."
)


HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group("viptt", cls=console.Commands, context_settings=HELP)
@click.version_option(__version__, prog_name="viptt")
@console.common
def main() -> None:
    """Turn CT scans and videos into cached tensors, split them, and train ViPTT-Net on them.

    DATASET names entries of the catalog; none means all.
    """


def _datasets(names: tuple[str, ...]) -> "tuple[Dataset, ...]":
    from pipeline.catalog import load_catalog, select

    return select(load_catalog(console.settings().catalog), names)


# --- check --------------------------------------------------------------------------------------


@main.command()
@_DATASETS
@click.option("--deep", is_flag=True, help="Read every byte, in workers as a build does.")
@_WORKERS
@_TIMEOUT
@_MEMORY_LIMIT
@_ALLOW_MISSING
@console.common
def check(names: tuple[str, ...], deep: bool, workers: int | None, **limits: Any) -> int:
    """Read catalog, labels and headers; report counts, shapes, orientations and problems."""
    from pipeline.build import Options, default_workers
    from pipeline.check import as_json, table
    from pipeline.check import check as inspect

    options = Options(workers=workers or default_workers(os.cpu_count() or 1), **limits)
    inspections = [inspect(dataset, options, deep=deep) for dataset in _datasets(names)]
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
    type=console.FiniteRange(0, 1),
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
    names: tuple[str, ...], workers: int | None, dry_run: bool, strict: bool, max_bad: float, **given: Any
) -> int:
    """Convert sources to a store: the Dask pipeline. Run it again to resume, or to add what changed."""
    from pipeline import build as builder

    workers = workers or builder.default_workers(os.cpu_count() or 1)
    options = builder.Options(workers=workers, max_bad=0.0 if strict else max_bad, **given)
    plans = [builder.make_plan(dataset, options) for dataset in _datasets(names)]
    for plan in plans:
        console.say_lines(builder.plan_lines(plan))
    if dry_run:
        found = [(plan, builder.preview(plan)) for plan in plans]
        lines = [line for pair in found for line in builder.preview_lines(*pair)]
        console.emit({"datasets": [builder.preview_json(*pair) for pair in found]}, "\n".join(lines))
        return 0
    summaries = []
    for plan in plans:
        with console.progress(plan.dataset.name, len(plan.samples), "sources") as report:
            summaries.append(builder.build(plan, options, report=_read_by(report)))
        _say_summary(summaries[-1])
    console.emit({"datasets": [builder.summary_json(summary) for summary in summaries]}, "")
    return QUARANTINED if any(summary.quarantined for summary in summaries) else 0


def _say_summary(summary: "Summary") -> None:
    from pipeline.build import summary_lines

    console.say_warnings(summary.warnings)
    console.tell_problems([item.problem for item in summary.quarantined])
    console.say_lines(summary_lines(summary))


def _read_by(report: console.Report) -> "Callable[[Result], None]":
    return lambda result: report(result.source_bytes)


# --- status and verify --------------------------------------------------------------------------


@main.command()
@_DATASETS
@click.option("--quick", is_flag=True, help="Do not compare the sources' contents.")
@console.common
def status(names: tuple[str, ...], quick: bool) -> int:
    """Say for each dataset whether its store is built, stale (and why), missing, or damaged."""
    from pipeline import status as states

    found = [states.status(dataset, quick=quick) for dataset in _datasets(names)]
    console.emit(states.status_json(found), "\n".join(map(states.status_text, found)))
    return max(item.exit_code for item in found)


@main.command()
@_DATASETS
@click.option("--quick", is_flag=True, help="Compare sizes only, not bytes.")
@click.option("--repair", is_flag=True, help="Make again what is damaged; the store stays what it was.")
@click.option("--strict", is_flag=True, help="Files that do not belong to the store are an error, too.")
@console.common
def verify(names: tuple[str, ...], quick: bool, repair: bool, strict: bool) -> int:
    """Check every byte of the stores, and of their features, against the hashes of their publishing."""
    from pipeline.build import Options, default_workers
    from pipeline.build import repair as repairs
    from pipeline.store.verify import verify as check_store

    options, found = Options(workers=default_workers(os.cpu_count() or 1)), []
    for dataset in _datasets(names):
        for path in repairs.stores_of(dataset):
            item = check_store(path, quick=quick, threads=options.workers)
            console.tell_problems(item.damaged)
            console.say_lines(repairs.verification_lines(item))
            if repair and item.damaged and path == dataset.store:
                with console.progress(dataset.name, len(item.damaged), "volumes") as report:
                    done = repairs.repair(dataset, options, report=_read_by(report))
                console.say(repairs.repair_text(done))
                item = check_store(path, threads=options.workers)
            found.append(item)
    lines = [repairs.verification_text(item, quick=quick) for item in found]
    console.emit(repairs.verifications_json(found), "\n".join(lines))
    return DAMAGED if any(item.damaged or (strict and item.unexpected) for item in found) else 0


# --- split --------------------------------------------------------------------------------------


@main.command()
@_DATASETS
@click.option("--check", is_flag=True, help="Find leaks in the split that is there; write nothing.")
@click.option(
    "--export", metavar="FORMAT", help="Write the split that is there as nnunet, ucf, covidx, monai or csv."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for --export.")
@click.option("--import", "given", type=click.Path(path_type=Path), help="Take the lists from a file.")
@click.option("--folds", type=click.IntRange(min=2), help="Number of equal folds.  [default: the catalog's]")
@click.option(
    "--fold", type=click.IntRange(min=0), help="Number of the fold that validates; the others train."
)
@click.option("--force", is_flag=True, help="Replace a split, or exported lists, that are there.")
@_STALE_OK
@console.common
def split(names: tuple[str, ...], **options: Any) -> int:
    """Divide stores into train, val and test, stratified and grouped, and write the split files."""
    from pipeline import split as splits

    updates = splits.plan_updates(_datasets(names), splits.Request(**options))
    for update in updates:
        console.say_lines(splits.write_update(update))
    problems = [problem for update in updates for problem in update.problems]
    console.tell_problems(problems)
    console.emit(splits.updates_json(updates), splits.updates_text(updates))
    return DAMAGED if problems else 0


# --- features, train and evaluate ---------------------------------------------------------------


@main.command()
@click.argument("name", metavar="DATASET")
@click.option("--model", default="viptt-net", show_default=True, help="Name of the network.")
@click.option(
    "--weights", metavar="imagenet|none|FILE|RUN", help="Weights of the backbone.  [default: imagenet]"
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of random weights.")
@console.common
def features(name: str, **options: Any) -> int:
    """Store what the frozen backbone makes of a dataset, for `viptt train --from-features`."""
    with _training_packages():
        from model.features import extractor
        from model.run import Settings as TrainSettings
        from model.run import versions
    from pipeline.build.features import derive
    from pipeline.store import open_store

    (dataset,) = _datasets((name,))
    store = open_store(dataset.store)
    with redirect_stdout(sys.stderr):  # Keras tells on stdout what it downloads
        made = extractor(TrainSettings(**options), store)
    with console.progress(name, len(store.rows), "samples") as report:
        derived = derive(
            store,
            made.compute,
            made.recipe,
            created_with={"viptt": __version__, **versions()},
            report=report,
        )
    _say_derived(name, derived)
    console.emit({**asdict(derived), "path": str(derived.path), "seconds": round(derived.seconds, 3)}, "")
    return 0


def _say_derived(name: str, derived: "Derived") -> None:
    console.say_warnings(derived.warnings)
    if not derived.published:
        console.say(f"{name}: nothing to do, features of {derived.samples} samples are up to date")
        return
    rate = f", {derived.seconds / derived.computed:.2f} s each" if derived.computed else ""
    counts = f"{derived.computed} computed{rate}, {derived.reused} kept from before"
    console.say(f"{name}: features of {derived.samples} samples in {derived.path}; {counts}")


@main.command()
@click.argument("name", metavar="DATASET")
@click.option(
    "--strategy",
    type=click.Choice(["no-pt", "pt", "pt+cw", "pt+cw+aug"]),
    default="no-pt",
    show_default=True,
    help="Row of the paper's Table 1: from where to start, class weights, augmentation.",
)
@click.option("--init", metavar="WEIGHTS|RUN", help="Take all layers but the last from these weights.")
@click.option("--model", default="viptt-net", show_default=True, help="Name of the network.")
@click.option(
    "--weights", metavar="imagenet|none|FILE|RUN", help="Weights of the backbone.  [default: imagenet]"
)
@click.option("--freeze/--no-freeze", default=None, help="Keep the backbone as it is.  [default: for videos]")
@click.option("--epochs", type=int, help="At most so many.  [default: 100; 1000 for scans of viptt-2021]")
@click.option("--batch-size", type=int, help="Samples in a step.  [default: 2; 1 for clips of viptt-2021]")
@click.option("--optimizer", type=click.Choice(["sgd", "adam"]), help="[default: sgd]")
@click.option("--learning-rate", type=float, help="[default: 0.001]")
@click.option("--plateau-patience", type=int, help="Epochs until the rate falls to a tenth.  [default: 5]")
@click.option("--stop-patience", type=int, help="Epochs without a better loss until the end.  [default: 8]")
@click.option("--seed", type=int, help="Of weights and order.  [default: 0]")
@click.option(
    "--run", "folder", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/DATASET]"
)
@click.option("--resume", is_flag=True, help="Go on where the run's last checkpoint stands.")
@click.option("--deterministic", is_flag=True, help="The same weights every time, at some speed.")
@click.option("--mixed-precision", is_flag=True, help="Compute in float16 where that is safe.")
@click.option("--jit-compile", is_flag=True, help="Compile with XLA.")
@click.option("--from-features", is_flag=True, help="Train LSTM and head on what `viptt features` stored.")
@click.option("--remat", is_flag=True, help="Compute activations twice instead of keeping them.")
@console.common
def train(name: str, folder: Path | None, resume: bool, freeze: bool | None, **options: Any) -> int:
    """Train a model on the parts train and val of a dataset's split."""
    with _training_packages():
        from model import train as trainer
        from model.run import Settings as TrainSettings
        from model.run import settings_for
    from pipeline.store import open_store

    (dataset,) = _datasets((name,))
    given = {option: value for option, value in options.items() if value is not None}
    TrainSettings(**given)  # a wrong option is told before a store that is missing
    settings = settings_for(open_store(dataset.store).header.recipe, freeze_backbone=freeze, **given)
    target = folder or Path("runs") / name
    with redirect_stdout(sys.stderr):  # Keras tells on stdout what it downloads
        run = trainer.train(
            dataset.store, dataset.split.file, target, settings, resume=resume, say=console.say
        )
    console.emit({"run": str(run)}, "")
    console.say(f"{name}: the run is in {run}; next: viptt evaluate {run}")
    return 0


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("name", metavar="[DATASET]", required=False)
@click.option("--split", "part", default="val", show_default=True, help="Part of the split.")
@click.option("--batch-size", type=click.IntRange(min=1), default=2, show_default=True)
@console.common
def evaluate(run: Path, name: str | None, part: str, batch_size: int) -> int:
    """Score a run: kappa, accuracy, F1 of each class, confusion matrix."""
    with _training_packages():
        from model import metrics

    (dataset,) = _datasets((name,)) if name else (None,)
    found = metrics.evaluate(
        run,
        store=dataset.store if dataset else None,
        split_file=dataset.split.file if dataset else None,
        part=part,
        batch_size=batch_size,
        say=console.say,
    )
    console.emit(asdict(found), metrics.table(found))
    return 0


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="(DATASET|FILE...)", nargs=-1, required=True)
@click.option(
    "--with",
    "others",
    metavar="RUN",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Average the probabilities with those of this run; may be given again.",
)
@click.option("--split", "part", help="Part of the dataset's split.  [default: all samples]")
@click.option("--out", type=_FILE, help="Write the table there, and what is quarantined beside it.")
@click.option("--submission", type=_FILE, help="Also write `NAME.nii.gz,CLASS` lines, as ImageCLEF takes.")
@click.option("--explain", type=click.Path(path_type=Path), help="Folder for a picture of each decision.")
@click.option("--batch-size", type=click.IntRange(min=1), default=2, show_default=True)
@_WORKERS
@click.option(
    "--scheduler",
    type=click.Choice(["local", "threads", "sync"]),
    default="local",
    show_default=True,
    help="Where to read files: processes or threads, or this process alone.",
)
@_TIMEOUT
@_MEMORY_LIMIT
@console.common
def predict(
    run: Path,
    inputs: tuple[str, ...],
    others: tuple[Path, ...],
    part: str | None,
    out: Path | None,
    submission: Path | None,
    explain: Path | None,
    batch_size: int,
    **reading: Any,
) -> int:
    """Predict the samples of a dataset's store, or new files by the run's own recipe.

    A FILE may be a folder: all sources below it. What exists as a path is a FILE.
    """
    dataset = _dataset_of(inputs)
    if part and not dataset:
        raise click.UsageError("--split is for a dataset, not for files")
    with _training_packages():
        from model import predict as predictor

        if explain:
            import model.plots  # noqa: F401 - told here if matplotlib is missing
    _check_targets(out, submission, explain)
    ensemble = predictor.load_ensemble((run, *others))
    if others:
        console.say(f"averaging {1 + len(others)} runs: {', '.join(map(str, (run, *others)))}")
    judge = {"batch_size": batch_size, "pictures": explain}
    bad: list[Quarantined] = []
    if dataset:
        found = _predict_dataset(ensemble, dataset, part, submission, **judge)
    else:
        found, bad = _predict_files(ensemble, inputs, reading, submission, **judge)
    console.tell_problems([item.problem for item in bad])
    _write_predictions(found, ensemble.data.classes, bad, out, submission)
    document = {
        "runs": [str(folder) for folder in (run, *others)],
        "predictions": [predictor.as_json(item, ensemble.data.classes) for item in found],
        "quarantined": [{"source": item.source, **asdict(item.problem)} for item in bad],
    }
    console.emit(document, "" if out else predictor.table(found, ensemble.data.classes), data=True)
    return QUARANTINED if bad else 0


def _dataset_of(inputs: tuple[str, ...]) -> "Dataset | None":
    """The dataset that is named; nothing where all are paths. Raises ConfigError, with all faults."""
    missing = [name for name in inputs if not os.path.exists(name)]  # noqa: PTH110 - Path's may raise
    if not missing:
        return None
    reason = "there is no such file or folder"
    if len(inputs) > 1:
        remedy = "correct the path; a dataset is predicted alone"
        raise ConfigError(*(Problem(name, "unknown-input", reason, remedy) for name in missing))
    try:
        (dataset,) = _datasets(inputs)
    except ConfigError as error:
        other = error.problems[0]
        reason += f"; as a dataset: {other.where}: {other.reason}"
        raise ConfigError.of(inputs[0], "unknown-input", reason, other.remedy) from None
    return dataset


def _check_targets(out: Path | None, submission: Path | None, explain: Path | None) -> None:
    """Refuse, before the work, what could not be written after it."""
    for path in (out, submission):
        if path and not path.absolute().parent.is_dir():
            raise ConfigError.of(path, "no-folder", "its folder is not there", "make it, or correct the path")
    try:
        if explain:
            explain.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError.of(
            explain, "no-folder", str(error.strerror), "give another `--explain DIR`"
        ) from error


def _predict_dataset(
    ensemble: "Ensemble",
    dataset: "Dataset",
    part: str | None,
    submission: Path | None,
    **judge: Any,
) -> "list[Prediction]":
    """Predict the samples of a store."""
    from model import predict as predictor
    from pipeline.store import open_store

    samples = predictor.samples_of(open_store(dataset.store), ensemble.data, dataset.split.file, part)
    if submission:
        predictor.check_submission([samples.store.rows[row].source for row in samples.rows])
    console.say(f"predicting {len(samples.ids)} samples of {dataset.name}")
    return list(predictor.predict_store(ensemble, samples, **judge))


def _predict_files(
    ensemble: "Ensemble",
    inputs: tuple[str, ...],
    reading: dict[str, Any],
    submission: Path | None,
    **judge: Any,
) -> "tuple[list[Prediction], list[Quarantined]]":
    """Predict files, each as soon as it is read, and find out which cannot be read."""
    from model import predict as predictor
    from pipeline.build import Options
    from pipeline.build.convert_files import convert_incoming, list_incoming
    from pipeline.readers import recipe_from

    recipe = recipe_from(ensemble.data.recipe)
    options = Options(**{**reading, "workers": reading["workers"] or os.cpu_count() or 1})
    files, nameless = list_incoming([Path(name) for name in inputs], ensemble.data.type)
    if submission:
        predictor.check_submission([file.source for file in files])
    console.say(f"predicting {len(files)} files")
    bad = list(nameless)
    with console.progress("predict", len(files), "files") as report:
        items = convert_incoming(files, recipe, options, report=_read_by(report))
        found = list(predictor.predict_volumes(ensemble, _good(items, bad), **judge))
    return found, bad


def _good(items: "Iterator[Arrival | Quarantined]", bad: "list[Quarantined]") -> "Iterator[Arrival]":
    """The volumes among what arrives; the rest is put aside."""
    from pipeline.build.convert_files import Arrival

    for item in items:
        if isinstance(item, Arrival):
            console.say_warnings(item.warnings)
            yield item
        else:
            bad.append(item)


def _write_predictions(
    found: "list[Prediction]",
    classes: Sequence[str],
    bad: "list[Quarantined]",
    out: Path | None,
    submission: Path | None,
) -> None:
    from model import predict as predictor
    from pipeline.files import write_durably
    from pipeline.sources import write_quarantine

    if out:
        write_durably(out, f"{predictor.table(found, classes)}\n".encode())
        write_quarantine(out.with_name(out.name.removesuffix(".csv") + ".quarantine.csv"), bad)
    if submission:
        write_durably(submission, predictor.submission(found).encode())
        if bad:
            console.say(f"warning: {submission}: {len(bad)} files have no line in it")


@main.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@console.common
def compare(runs: tuple[Path, ...]) -> int:
    """Lay evaluated runs side by side, beside the paper's tables."""
    with _training_packages():
        from model import compare as comparison

    rows = comparison.compare(runs)
    console.emit({"runs": [asdict(row) for row in rows]}, comparison.comparison_table(rows))
    return 0


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder, new or empty.")
@click.option(
    "--to",
    "form",
    type=click.Choice(["savedmodel", "onnx"]),
    default="savedmodel",
    show_default=True,
    help="The folder is a SavedModel, or holds model.onnx.",
)
@console.common
def export(run: Path, out: Path, form: str) -> int:
    """Write a run as a model that takes one raw volume of any size, and needs nothing of viptt."""
    with _training_packages():
        from model.export import export_onnx, export_saved_model

    write = export_onnx if form == "onnx" else export_saved_model
    with redirect_stdout(sys.stderr):  # the converters tell what they do
        write(run, out)
    console.emit({"out": str(out), "to": form}, "")
    console.say(f"{run}: exported to {out}")
    return 0


@contextmanager
def _training_packages() -> Iterator[None]:
    """Import the model's packages quietly; say how to get them where they are missing."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        with nullcontext() if console.settings().verbosity > 0 else _native_stderr_closed():
            yield
            import tensorflow

            tensorflow.config.list_physical_devices()  # it looks for GPUs now, not in the middle of a line
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("model", "pipeline"):
            raise
        reason = f"{error.name} is not installed"
        raise ConfigError.of("viptt", "missing-package", reason, "run `pip install 'viptt[train]'`") from None


@contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """Keep what TensorFlow's C++ says while it is imported, about GPUs that are not there, from the user."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


# --- demo ---------------------------------------------------------------------------------------


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of data and weights.")
@click.option("--no-train", is_flag=True, help="Stop before training, which needs TensorFlow.")
@console.common
def demo(folder: Path, seed: int, no_train: bool) -> int:
    """Write generated scans and clips with a catalog into DIR, then run the whole chain on them."""
    from pipeline.demo import run_demo

    return run_demo(folder, _run_command, console.say, seed=seed, training=not no_train)


def _run_command(arguments: Sequence[str]) -> int:
    """Run another command inside this one, as quietly; its exit code."""
    quiet = ["--quiet"] * (console.settings().verbosity < 0)
    code: int | None = main.main([*arguments, *quiet], standalone_mode=False)
    return code or 0


if __name__ == "__main__":
    main()
