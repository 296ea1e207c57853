"""How good a run is: unweighted kappa, accuracy, F1 per class, confusion matrix (paper, section 3.3)."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, f1_score

from model.run import WEIGHTS, Config, describe, load_network, read_history
from model.stream import Part, batches, bind, integrity_errors
from model.weights import file_sha256
from pipeline.errors import ConfigError, IntegrityError, inert
from pipeline.split import read_split
from pipeline.store import Store, open_store, write_durably

METRICS, PREDICTIONS = "metrics.json", "predictions.csv"


@dataclass(frozen=True)
class Scores:
    """What two lists of classes give. None where a score is not defined: a class that occurs in
    neither list has no F1, and there is no kappa where both lists hold one class alone.

    ``confusion[true][predicted]`` counts samples. ``intervals`` are 95 % bootstrap intervals of
    "accuracy", "kappa" and "f1 CLASS", where they are defined.
    """

    samples: int
    accuracy: float
    kappa: float | None
    f1: Mapping[str, float | None]
    confusion: tuple[tuple[int, ...], ...]
    intervals: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Metrics:
    """Scores of a run on one part of a split, and what they belong to."""

    part: str
    scores: Scores
    store_digest: str
    split_digest: str
    weights_sha256: str


def evaluate(
    run: str | Path,
    *,
    store: str | Path | None = None,
    split_file: str | Path | None = None,
    part: str = "val",
    batch_size: int = 2,
    say: Callable[[str], None] = lambda line: None,
) -> Metrics:
    """Predict a part with the best weights of a run; write metrics.json and predictions.csv into it.

    Store and split are those of the training unless others are given. Raises ConfigError if the
    run or the part cannot be used, IntegrityError if anything is damaged or does not belong.
    """
    folder = Path(run)
    config, net = load_network(folder)
    bound, split_digest = _part(config, store, split_file, part)
    if bound.store.header.recipe != config.data.recipe:
        say(f"warning: {bound.store.path} was built by another recipe than the run was trained on")
    say(f"predicting {len(bound.ids)} samples of {part!r}")
    probabilities = predict(net, bound, batch_size=batch_size)
    scores = score(bound.labels, probabilities.argmax(axis=1), config.data.classes)
    digest = file_sha256(folder / WEIGHTS)
    metrics = Metrics(part, scores, bound.store.digest, split_digest, digest)
    write_durably(folder / PREDICTIONS, _predictions(bound, probabilities))
    write_durably(
        folder / METRICS, (json.dumps(asdict(metrics), indent=2, ensure_ascii=False) + "\n").encode()
    )
    _draw(folder, metrics, say)
    return metrics


def _draw(folder: Path, metrics: Metrics, say: Callable[[str], None]) -> None:
    """Figures are a help, not a result: without matplotlib there are none."""
    try:
        from model.plots import draw_confusion, draw_curves
    except ImportError:
        say("no figures: matplotlib is missing → pip install 'viptt[train]'")
        return
    scores = metrics.scores
    title = f"{metrics.part}, {scores.samples} samples"
    draw_confusion(folder / "confusion", scores.confusion, list(scores.f1), title)
    history = read_history(folder)
    if history:
        draw_curves(folder / "curves", history)


def predict(net: keras.Model, part: Part, *, batch_size: int) -> NDArray[np.float32]:
    """Class probabilities (samples, classes), in the order of the part.

    Raises IntegrityError if a volume is damaged, or the network gives numbers that are not finite.
    """
    with integrity_errors():
        probabilities = np.asarray(net.predict(batches(part, batch_size=batch_size), verbose=0))
    if probabilities.shape != (len(part.ids), net.output_shape[-1]):
        reason = f"{probabilities.shape} predictions for {len(part.ids)} samples"
        raise IntegrityError.of(part.store.path, "incomplete", reason, "run `viptt verify`")
    check_finite(part.ids, probabilities)
    return probabilities


def check_finite(ids: Sequence[str], probabilities: NDArray[np.float32]) -> None:
    """Raise IntegrityError, naming the sample, where a network gives numbers that are not finite."""
    finite = np.isfinite(probabilities).all(axis=1)
    if not finite.all():
        bad = ids[int(np.argmin(finite))]
        raise IntegrityError.of(f"sample {bad}", "non-finite", "the network predicts NaN", "train again")


# --- scores -------------------------------------------------------------------------------------


def score(
    truth: Sequence[int], predicted: Sequence[int] | NDArray[np.int64], classes: Sequence[str]
) -> Scores:
    """Score predicted against true classes, both as indices into ``classes``; some may be absent."""
    every = range(len(classes))
    f1 = f1_score(truth, predicted, labels=list(every), average=None, zero_division=np.nan)
    one_class = len({*truth, *predicted}) == 1
    kappa = np.nan if one_class else cohen_kappa_score(truth, predicted, labels=list(every))
    counts = confusion_matrix(truth, predicted, labels=list(every))
    return Scores(
        samples=len(truth),
        accuracy=float(accuracy_score(truth, predicted)),
        kappa=_defined(kappa),
        f1={name: _defined(value) for name, value in zip(classes, f1, strict=True)},
        confusion=tuple(tuple(int(count) for count in row) for row in counts),
        intervals=intervals(counts, classes),
    )


def intervals(
    confusion: NDArray[np.int64], classes: Sequence[str], *, draws: int = 2000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals from a confusion matrix.

    Drawing samples with replacement is drawing from the cells of the matrix; a score that a draw
    does not define is left out of its interval.
    """
    total, size = int(confusion.sum()), len(classes)
    shares = confusion.ravel() / total
    drawn = np.random.default_rng(seed).multinomial(total, shares, draws).reshape(draws, size, size)
    hits = np.diagonal(drawn, axis1=1, axis2=2)
    true, found = drawn.sum(axis=2), drawn.sum(axis=1)
    agreement, chance = hits.sum(axis=1) / total, (true * found).sum(axis=1) / total**2
    with np.errstate(invalid="ignore"):  # 0 / 0 where a score is not defined
        scores = {"accuracy": agreement, "kappa": (agreement - chance) / (1 - chance)}
        f1 = 2 * hits / (true + found)
    scores |= {f"f1 {name}": f1[:, index] for index, name in enumerate(classes)}
    defined = {name: values[~np.isnan(values)] for name, values in scores.items()}
    bounds = {name: np.percentile(values, (2.5, 97.5)) for name, values in defined.items() if values.size}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def table(metrics: Metrics) -> str:
    """The scores for people: one line for the whole, one per class, with what it was taken for."""
    scores, width = metrics.scores, max(map(len, metrics.scores.f1))
    lines = [
        f"{metrics.part}: {scores.samples} samples, accuracy {_text(scores, 'accuracy', scores.accuracy)},"
        f" kappa {_text(scores, 'kappa', scores.kappa)}; in brackets, 95 % of 2000 bootstrap draws",
        f"{'class':<{width}}  {'n':>5}  {'F1':<20}  predicted as, in the order of the classes",
    ]
    for (name, f1), row in zip(scores.f1.items(), scores.confusion, strict=True):
        counts = " ".join(f"{count:>4}" for count in row)
        lines.append(f"{name:<{width}}  {sum(row):>5}  {_text(scores, f'f1 {name}', f1):<20}  {counts}")
    return "\n".join(lines)


def _text(scores: Scores, name: str, value: float | None) -> str:
    if value is None:
        return "–"
    low, high = scores.intervals.get(name, (value, value))
    return f"{value:.3f} [{low:.2f}, {high:.2f}]"


# --- files --------------------------------------------------------------------------------------


def _part(
    config: Config, store: str | Path | None, split_file: str | Path | None, name: str
) -> tuple[Part, str]:
    """Bind a part of what was asked for, or of what the run was trained on, if that is unchanged."""
    split = Path(split_file or config.data.split)
    opened = open_store(store or config.data.store)
    bound = bind(opened, read_split(split), name, where=str(split))
    if not bound.ids:
        raise ConfigError.of(split, "empty-part", f"its part {name!r} is empty", "name another part")
    _check_fits(config, opened)
    if store is None and opened.digest != config.data.store_digest:
        reason = "the store has been built anew since the run was trained on it"
        raise IntegrityError.of(
            opened.path, "other-store", reason, "name the dataset to evaluate on it all the same"
        )
    return bound, describe(opened, split).split_digest


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


def _predictions(part: Part, probabilities: NDArray[np.float32]) -> bytes:
    """A row per sample: id, true class, predicted class, the probability of each class."""
    classes = part.store.header.classes
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["id", "label", "predicted", *classes])
    for sample, label, row in zip(part.ids, part.labels, probabilities, strict=True):
        numbers = [f"{value:.6g}" for value in row]
        names = (sample, classes[label], classes[int(row.argmax())])
        writer.writerow([*map(inert, names), *numbers])
    return text.getvalue().encode()
