"""The command line: one command, one call. Nothing is computed here, and nothing heavy is imported early.

Data goes to stdout, messages and progress to stderr.
"""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

try:
    import model
    import pipeline

    for package in (model, pipeline):
        if Path(str(package.__file__)).resolve().parents[1] != Path(__file__).resolve().parent:
            raise ImportError(f"'{package.__name__}' is another program's: {package.__file__}", name="model")
    from model.config_file import given_settings, shown
    from model.framework import load_framework
    from model.options import settings_options
    from model.settings import Settings, settings_for
    from pipeline import __version__, console
    from pipeline import options as shared
except ImportError as error:
    if str(error.name).split(".")[0] not in ("model", "pipeline"):
        raise
    print(f"viptt: foreign-package: {error} → give viptt an environment of its own", file=sys.stderr)
    sys.exit(2)

if TYPE_CHECKING:
    from model.predict import Ensemble
    from model.predictions import Prediction
    from pipeline.build import Summary
    from pipeline.build.worker import Result
    from pipeline.catalog.schema import Dataset
    from pipeline.sources import Quarantined

QUARANTINED, DAMAGED = 3, 4
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group("viptt", cls=console.Commands, context_settings=HELP)
@click.version_option(__version__, prog_name="viptt")
@console.common
def main() -> None:
    """Turn CT scans, videos and pictures into cached tensors, split them, and train networks on them.

    DATASET names entries of the catalog; none means all.
    """


def _datasets(names: tuple[str, ...]) -> "tuple[Dataset, ...]":
    from pipeline.catalog import load_catalog, select

    return select(load_catalog(console.settings().catalog), names)


@main.command()
@click.argument("folder", metavar="FOLDER", type=shared.FOLDER)
@console.common
def init(folder: Path) -> int:
    """Write a catalog for a folder of sources. It says what it guessed."""
    from pipeline.guess import as_json, write_catalog

    draft = write_catalog(folder, console.settings().catalog)
    console.say_lines(draft.lines)
    console.emit(as_json(draft), "")
    return 0


@main.command()
@console.common
def doctor() -> int:
    """Say what this machine offers, and what is missing."""
    from pipeline.doctor import examine, findings_json, findings_text

    found = examine(console.settings().catalog)
    console.emit(findings_json(found), findings_text(found))
    return 0


@main.command()
@shared.DATASETS
@click.option("--deep", is_flag=True, help="Read every byte, in workers as a build does.")
@shared.reading
@shared.ALLOW_MISSING
@console.common
def check(names: tuple[str, ...], deep: bool, workers: int | None, **limits: Any) -> int:
    """Find problems in catalog, labels and sources. Counts, shapes and orientations are shown, too."""
    from pipeline.build import Options, default_workers
    from pipeline.check import as_json, table
    from pipeline.check import check as inspect

    options = Options(workers=workers or default_workers(os.cpu_count() or 1), **limits)
    inspections = [inspect(dataset, options, deep=deep) for dataset in _datasets(names)]
    for inspection in inspections:
        console.tell_problems([item.problem for item in inspection.bad])
        console.say_warnings([*inspection.listing.warnings, *inspection.doubtful])
    console.emit({"datasets": [*map(as_json, inspections)]}, "\n\n".join(map(table, inspections)))
    return QUARANTINED if any(inspection.bad for inspection in inspections) else 0


@main.command()
@shared.DATASETS
@shared.building
@console.common
def build(
    names: tuple[str, ...], workers: int | None, dry_run: bool, strict: bool, max_bad: float, **given: Any
) -> int:
    """Convert sources to a store: the Dask pipeline. Run it again to resume, or to add what changed."""
    from pipeline import build as builder

    workers = workers or builder.default_workers(os.cpu_count() or 1)
    options = builder.Options(workers=workers, max_bad=0.0 if strict else max_bad, **given)
    plans = [builder.make_plan(dataset, options) for dataset in _datasets(names)]
    console.say_lines(line for plan in plans for line in builder.plan_lines(plan))
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


@main.command()
@shared.DATASETS
@click.option("--quick", is_flag=True, help="Do not compare the sources' contents.")
@console.common
def status(names: tuple[str, ...], quick: bool) -> int:
    """Say whether stores are built, stale, missing or damaged. Of a stale one, it says why."""
    from pipeline import status as states

    found = [states.status(dataset, quick=quick) for dataset in _datasets(names)]
    console.emit(states.status_json(found), "\n".join(map(states.status_text, found)))
    return max(item.exit_code for item in found)


@main.command()
@shared.DATASETS
@click.option("--quick", is_flag=True, help="Compare sizes only, not bytes.")
@click.option("--repair", is_flag=True, help="Make again what is damaged; the store stays what it was.")
@click.option("--strict", is_flag=True, help="Files that do not belong to the store are an error, too.")
@console.common
def verify(names: tuple[str, ...], quick: bool, repair: bool, strict: bool) -> int:
    """Check every byte of stores. Features too are compared with the hashes that were published with them."""
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


@main.command()
@shared.DATASETS
@shared.splitting
@console.common
def split(names: tuple[str, ...], **options: Any) -> int:
    """Divide stores into train, val and test. Classes keep their shares, groups stay together."""
    from pipeline import split as splits

    updates = splits.plan_updates(_datasets(names), splits.Request(**options))
    for update in updates:
        console.say_lines(splits.write_update(update))
    problems = [problem for update in updates for problem in update.problems]
    console.tell_problems(problems)
    console.emit(splits.updates_json(updates), splits.updates_text(updates))
    return DAMAGED if problems else 0


@main.command()
@shared.REPORTED
@shared.reporting
@console.common
def report(names: tuple[str, ...], out: Path | None, cards: bool, other: str | None) -> int:
    """Write an HTML page about a store, or about runs. It shows what is odd, and what runs are worth."""
    from model.run_page import CONFIG, write_run_page
    from pipeline.report import named_runs, write_pages

    name, every = names[0], (*names, *([other] if other else []))
    runs = named_runs(every, console.settings().catalog, mark=CONFIG)
    done = write_run_page(runs, out, cards=cards) if runs else write_pages(_datasets(every), out, cards=cards)
    page, *others = map(str, done)
    console.say_lines(f"{name}: wrote {path}" for path in others)
    told = {"runs": every} if runs else {"dataset": name}
    console.emit({**told, "page": page, "cards": others}, f"{name}: open {page} in a browser")
    return 0


_RUN = click.argument("run", type=shared.FOLDER)
_FORMS = click.Choice(["savedmodel", "onnx", "triton"])


@main.command()
@shared.DATASET
@settings_options("model", "weights", "seed")
@shared.STALE_OK
@console.common
def features(name: str, stale_ok: bool, **options: Any) -> int:
    """Store the output of the frozen backbone. `viptt train --from-features` reads it."""
    from pipeline.build.features import derive, derived_text
    from pipeline.status import open_fresh

    settings = Settings(**given_settings(**options))
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
@shared.DATASET
@settings_options()
@click.option("--run", "folder", type=shared.FOLDER, help="Folder of the run.  [default: runs/DATASET]")
@click.option("--resume", is_flag=True, help="Continue the run at its last checkpoint.")
@shared.STALE_OK
@console.common
def train(name: str, folder: Path | None, resume: bool, stale_ok: bool, **options: Any) -> int:
    """Train a network on the splits train and val of a dataset."""
    from pipeline.status import open_fresh

    showing = options.pop("show_config")
    given = given_settings(**options)  # a wrong one is reported before a store that is missing
    (dataset,) = _datasets((name,))
    if showing:
        console.emit(*shown(settings_for(dataset.recipe.as_json(), **given)), data=True)
        return 0
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
            leaks_ok=dataset.split.group == "none" or dataset.split.method == "viptt-2021",
            say=console.say,
            bar=partial(console.progress, what="steps") if sys.stderr.isatty() else training.no_bar,
        )
    console.emit({"run": str(run)}, "")
    console.say(f"{name}: the run is in {run}; next: viptt evaluate {run}")
    return 0


@main.command()
@_RUN
@shared.MAYBE_DATASET
@click.option("--split", default="val", show_default=True, help="Name of the split to predict.")
@click.option("--background", metavar="CLASS", help="Class of samples without a finding.  [default: Normal]")
@shared.BATCH_SIZE
@shared.STALE_OK
@console.common
def evaluate(run: Path, name: str | None, stale_ok: bool, **options: Any) -> int:
    """Score a run on a split. Writes scores with intervals, the confusion matrix, and figures."""
    from pipeline.status import open_fresh

    if name:
        (dataset,) = _datasets((name,))
        open_fresh(dataset, stale_ok=stale_ok, warn=console.say_warnings)
        options |= {"store": dataset.store, "split_file": dataset.split.file}
    _load_framework()
    from model import evaluate as evaluation
    from model import score_text

    found = evaluation.evaluate(run, say=console.say, **options)
    console.emit(evaluation.as_json(found), score_text.text(found))
    console.say(score_text.files_text(found))
    return 0


def _load_framework(*, figures: bool = False) -> None:
    load_framework(verbose=console.settings().verbosity > 0, figures=figures)


@main.command()
@_RUN
@click.argument("inputs", metavar="(DATASET|FILE...)", nargs=-1, required=True)
@shared.predicting
@console.common
def predict(
    run: Path,
    inputs: tuple[str, ...],
    others: tuple[Path, ...],
    split: str | None,
    out: Path | None,
    submission: Path | None,
    explain: Path | None,
    timelines: Path | None,
    batch_size: int,
    **reading: Any,
) -> int:
    """Predict a dataset, or new files. These are converted by the run's own recipe.

    A FILE may be a folder: all sources below it. Write `./NAME` for a path that is also a dataset.
    """
    from pipeline.inputs import named_dataset, write_bad

    dataset, runs = named_dataset(inputs, console.settings().catalog, split=split), (run, *others)
    _load_framework(figures=bool(explain or timelines))
    from model import predictions
    from model.predict import load_ensemble, predict_dataset

    predictions.check_targets(out, submission, explain=explain, timelines=timelines)
    ensemble = load_ensemble(runs, explained=bool(explain), over_time=bool(timelines), say=console.say)
    how: dict[str, Any] = {"batch_size": batch_size, "pictures": explain, "submission": submission}
    bad: list[Quarantined] = []
    if dataset:
        found = predict_dataset(ensemble, dataset.store, dataset.split.file, split, say=console.say, **how)
    else:
        found, bad = _predict_files(ensemble, inputs, reading, **how)
    console.tell_problems([item.problem for item in bad])
    classes = ensemble.data.classes
    predictions.write(runs, classes, found, out=out, submission_file=submission, timelines=timelines)
    write_bad(out, bad)
    document = predictions.document(runs, classes, found, bad)
    console.emit(document, "" if out else predictions.table(found, classes), data=True)
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
    console.say(f"files to predict: {len(new.files)}")
    options = Options(**{**reading, "workers": reading["workers"] or os.cpu_count() or 1})
    with console.progress("predict", len(new.files), "files") as report:
        volumes = new.volumes(options, report=_read_by(report), warn=console.say_warnings)
        found = list(predict_volumes(ensemble, volumes, refuse=new.refuse, **how))
    if submission and new.bad:
        console.say(f"warning: {submission}: {len(new.bad)} files have no line in it")
    return found, new.bad


@main.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=shared.FOLDER)
@click.option("--timelines", type=shared.FOLDER, help="Folder for pictures of predictions over time.")
@console.common
def compare(runs: tuple[Path, ...], timelines: Path | None) -> int:
    """Show runs side by side. Adds papers on the same classes, and of two runs whether one is better."""
    from model import compare as comparison
    from model import compare_text

    found = comparison.compare(runs, timelines=timelines)
    console.emit(comparison.as_json(found), compare_text.text(found))
    console.say_lines(compare_text.files_lines(found))
    return 0


@main.command()
@_RUN
@click.option("--out", required=True, type=shared.FOLDER, help="Folder, new or empty.")
@click.option("--to", "form", type=_FORMS, default="savedmodel", show_default=True, help="Form to write.")
@console.common
def export(run: Path, out: Path, form: str) -> int:
    """Write a run as a model of its own. It takes a raw volume or picture of any size, and needs no viptt."""
    _load_framework()
    from model.export import export as write

    with redirect_stdout(sys.stderr):  # the converters print what they do
        write(run, out, form)
    console.emit({"out": str(out), "to": form}, "")
    console.say(f"{run}: exported to {out}")
    return 0


@main.command()
@click.argument("folder", metavar="DIR", type=shared.FOLDER)
@shared.demonstrating
@console.common
def demo(folder: Path, kind: str, seed: int, no_train: bool) -> int:
    """Run the whole chain on generated data. Sources and their catalog are written into DIR."""
    from pipeline.demo import run_demo

    return run_demo(folder, _run_command, console.say, kind=kind, seed=seed, training=not no_train)


def _run_command(arguments: Sequence[str]) -> int:
    """Run another command inside this one, as quietly; its exit code."""
    quiet = ["--quiet"] * (console.settings().verbosity < 0)
    code: int | None = main.main([*arguments, *quiet], standalone_mode=False)
    return code or 0


if __name__ == "__main__":
    main()
