"""Evaluate a run: predict a split with its best weights, score that, and write both into the run."""

import csv
import io
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.loading import load_network
from model.metrics import Scores, score
from model.predict import probabilities
from model.run_folder import METRICS, PREDICTIONS, WEIGHTS, Config, describe, read_history, write_json
from model.sidecar import file_sha256
from model.stream import Samples, bind
from pipeline.errors import ConfigError, IntegrityError, inert
from pipeline.split import read_split
from pipeline.store import Store, open_store, write_durably

Say = Callable[[str], None]


@dataclass(frozen=True)
class Evaluation:
    """Scores of a run on one split, and the digests of what they belong to."""

    split: str
    scores: Scores
    store_digest: str
    split_digest: str
    weights_sha256: str


def evaluate(
    run: str | Path,
    *,
    store: str | Path | None = None,
    split_file: str | Path | None = None,
    split: str = "val",
    batch_size: int = 2,
    say: Say = lambda line: None,
) -> Evaluation:
    """Predict a split with the best weights of a run; write metrics.json and predictions.csv into it.

    Store and split file are those of the training unless others are given. Raises ConfigError if the
    run or the split cannot be used, IntegrityError if anything is damaged or does not belong.
    """
    folder = Path(run)
    config, net = load_network(folder)
    samples, split_digest = _samples(config, store, split_file, split)
    if samples.store.header.recipe != config.data.recipe:
        say(f"warning: {samples.store.path} was built with another recipe than the run was trained on")
    say(f"predicting {len(samples.ids)} samples of {split!r}")
    found = probabilities(net, samples, batch_size=batch_size)
    scores = score(samples.labels, found.argmax(axis=1), config.data.classes)
    # The hash says later whether metrics.json still belongs to the weights beside it.
    weights_sha256 = file_sha256(folder / WEIGHTS)
    evaluation = Evaluation(split, scores, samples.store.digest, split_digest, weights_sha256)
    write_durably(folder / PREDICTIONS, _csv(samples, found))
    write_json(folder / METRICS, asdict(evaluation))
    _draw_figures(folder, evaluation, say)
    return evaluation


def _draw_figures(folder: Path, evaluation: Evaluation, say: Say) -> None:
    """Figures help, but the scores do not need them: without matplotlib there are none."""
    try:
        from model.plots import draw_confusion, draw_curves
    except ImportError:
        say("no figures: matplotlib is missing → pip install 'viptt[train]'")
        return
    scores = evaluation.scores
    title = f"{evaluation.split}, {scores.samples} samples"
    draw_confusion(folder / "confusion", scores.confusion, list(scores.f1), title)
    history = read_history(folder)
    if history:
        draw_curves(folder / "curves", history)


# --- which samples ------------------------------------------------------------------------------


def _samples(
    config: Config, store: str | Path | None, split_file: str | Path | None, name: str
) -> tuple[Samples, str]:
    """The samples of a split, by default of the run's own store if unchanged; the digest of its file."""
    file = Path(split_file or config.data.split)
    opened = open_store(store or config.data.store)
    samples = bind(opened, read_split(file), name, where=str(file))
    if not samples.ids:
        raise ConfigError.of(file, "empty-split", f"its split {name!r} is empty", "name another one")
    # The order matters: of a store that does not fit at all, it is no news that it was rebuilt.
    _check_fits(config, opened)
    # A dataset that the user names may be any; the one of the training must be what it was.
    if store is None and opened.digest != config.data.store_digest:
        reason = "the store has been rebuilt since the run was trained on it"
        raise IntegrityError.of(
            opened.path, "other-store", reason, "name the dataset to evaluate on it all the same"
        )
    return samples, describe(opened, file).split_digest


def _check_fits(config: Config, store: Store) -> None:
    """Refuse a store that the network of a run cannot judge."""
    if store.header.classes != config.data.classes:
        reason = (
            f"its classes are {', '.join(store.header.classes)}; the run has {', '.join(config.data.classes)}"
        )
        raise ConfigError.of(
            store.path, "other-classes", reason, "name a dataset with the classes of the run"
        )
    if (*store.header.shape, 1) != config.data.shape:
        reason = f"its volumes are {store.header.shape}; the run has {config.data.shape[:3]}"
        raise ConfigError.of(store.path, "other-shape", reason, "name a dataset with the shape of the run")


# --- as text ------------------------------------------------------------------------------------


def table(evaluation: Evaluation) -> str:
    """The scores for people: a line for the whole, then one per class with what it was taken for."""
    scores, width = evaluation.scores, max(map(len, evaluation.scores.f1))
    lines = [
        f"{evaluation.split}: {scores.samples} samples, "
        f"accuracy {_interval_text(scores, 'accuracy', scores.accuracy)}, "
        f"kappa {_interval_text(scores, 'kappa', scores.kappa)}; "
        "in brackets, 95 % intervals of 2000 bootstrap draws",
        f"{'class':<{width}}  {'n':>5}  {'F1':<20}  predicted as, in the order of the classes",
    ]
    for (name, f1), row in zip(scores.f1.items(), scores.confusion, strict=True):
        counts = " ".join(f"{count:>4}" for count in row)
        f1_text = _interval_text(scores, f"f1 {name}", f1)
        lines.append(f"{name:<{width}}  {sum(row):>5}  {f1_text:<20}  {counts}")
    return "\n".join(lines)


def _interval_text(scores: Scores, name: str, value: float | None) -> str:
    if value is None:
        return "–"
    low, high = scores.intervals.get(name, (value, value))
    return f"{value:.3f} [{low:.2f}, {high:.2f}]"


def _csv(samples: Samples, found: NDArray[np.float32]) -> bytes:
    """A row per sample: id, true class, predicted class, the probability of each class."""
    classes = samples.store.header.classes
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["id", "label", "predicted", *classes])
    for sample, label, row in zip(samples.ids, samples.labels, found, strict=True):
        numbers = [f"{value:.6g}" for value in row]
        names = (sample, classes[label], classes[int(row.argmax())])
        writer.writerow([*map(inert, names), *numbers])
    return text.getvalue().encode()
