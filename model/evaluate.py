"""Evaluate a run: predict a split with its best weights, score that, and write both into the run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from model import judged, scores
from model.curves import Reliability, reliability
from model.diagram import network_svg
from model.judged import Judged, Place
from model.levels import Level, background_of, consistent, levels
from model.loading import load_network
from model.predict import probabilities
from model.run_folder import (
    METRICS,
    NETWORK,
    PREDICTIONS,
    WEIGHTS,
    Config,
    describe,
    read_history,
    write_json,
)
from model.scores import Scores
from model.settings import Settings
from model.sidecar import file_sha256
from model.stacks import PerStack, per_stack
from model.stream import Samples, bind, chosen_samples
from pipeline.errors import ConfigError, IntegrityError
from pipeline.split import read_split
from pipeline.store import Store, open_store, write_durably

Say = Callable[[str], None]


@dataclass(frozen=True)
class Evaluation:
    """What a run is worth on one split, the digests of what that belongs to, and the files written.

    ``levels`` are the decisions for groups, none where no samples belong together. ``background`` is
    the class of samples without a finding, for the rule "any". ``stacks`` is None where samples are no
    pictures. ``files`` are names in the run's folder.
    """

    run: str
    dataset: str
    split: str
    scores: Scores
    levels: tuple[Level, ...]
    background: str | None
    reliability: Reliability
    store_digest: str
    split_digest: str
    weights_sha256: str
    stacks: PerStack | None = None
    files: tuple[str, ...] = ()


def evaluate(
    run: str | Path,
    *,
    store: str | Path | None = None,
    split_file: str | Path | None = None,
    split: str = "val",
    background: str | None = None,
    batch_size: int = 2,
    say: Say = lambda line: None,
) -> Evaluation:
    """Predict a split with the best weights of a run; write scores, predictions and figures into it.

    Store and split file are those of the training unless others are given. ``background`` names the
    class without a finding; without it, a class called "Normal" or the like. Of windows, there is one for
    every picture that has enough others before it, and the picture's label counts. Raises ConfigError if the
    run, the split or the class cannot be used, IntegrityError if anything is damaged or does not belong.
    """
    folder = Path(run)
    config, net = load_network(folder)
    nothing_found = background_of(config.data.classes, background)
    samples, split_digest = _samples(config, store, split_file, split, say)
    if samples.store.header.recipe != config.data.recipe:
        say(f"warning: {samples.store.path} was built with another recipe than the run was trained on")
    say(f"predicting {len(samples.ids)} samples of {split!r}")
    found = probabilities(net, samples, batch_size=batch_size)
    evaluation = Evaluation(
        run=str(folder),
        dataset=samples.store.header.dataset,
        split=split,
        scores=scores.score(samples.labels, found, config.data.classes, groups=_groups(samples)),
        levels=_levels(samples, found, nothing_found, say),
        background=None if nothing_found is None else config.data.classes[nothing_found],
        reliability=reliability(np.array(samples.labels), found.astype(np.float64)),
        store_digest=samples.store.digest,
        split_digest=split_digest,
        # The hash says later whether metrics.json still belongs to the weights beside it.
        weights_sha256=file_sha256(folder / WEIGHTS),
        stacks=_per_stack(samples, found),
    )
    return _write(folder, net, evaluation, samples, found, say)


def _groups(samples: Samples) -> list[str]:
    return [samples.store.rows[row].group for row in samples.rows]


def _ids(samples: Samples) -> tuple[str, ...]:
    """The ids of what is judged; by its last picture, a window can be compared with that picture alone."""
    return tuple(samples.store.rows[row].id for row in samples.labelled_rows)


def _places(samples: Samples) -> list[Place]:
    """Stack and position of the pictures that are judged; none where samples are no pictures."""
    rows = [samples.store.rows[row] for row in samples.labelled_rows]
    return [(row.stack, row.position) for row in rows] if samples.store.header.pictures else []


def _per_stack(samples: Samples, found: NDArray[np.float32]) -> PerStack | None:
    stacks = [stack for stack, _ in _places(samples)]
    return per_stack(np.array(samples.labels), found.argmax(axis=1), stacks) if stacks else None


def _levels(
    samples: Samples, found: NDArray[np.float32], background: int | None, say: Say
) -> tuple[Level, ...]:
    """Decisions for what belongs together, from the finest kind of unit to the coarsest."""
    units: Mapping[str, Sequence[str]] = {"group": _groups(samples)}
    if samples.store.header.pictures:
        units = {"stack": [samples.store.rows[row].stack for row in samples.rows], **units}
    units, refused = consistent(samples.labels, units)
    for line in refused:
        say(line)
    return levels(samples.labels, found, samples.store.header.classes, units, background=background)


# --- what is written ----------------------------------------------------------------------------


def _write(
    folder: Path,
    net: keras.Model,
    evaluation: Evaluation,
    samples: Samples,
    found: NDArray[np.float32],
    say: Say,
) -> Evaluation:
    """Write the files of an evaluation; the same, with their names."""
    classes = samples.store.header.classes
    known = (_ids(samples), samples.labels, found, _groups(samples), classes)
    table = judged.table(*known, places=_places(samples))
    write_durably(folder / PREDICTIONS, table)
    figures = [*_draw_figures(folder, evaluation, samples, found, say), folder / NETWORK]
    write_durably(folder / NETWORK, network_svg(net).encode())
    done = replace(evaluation, files=(METRICS, PREDICTIONS, *(path.name for path in figures)))
    # Last: where the scores are, everything else is, too.
    write_json(folder / METRICS, as_json(done))
    return done


def _draw_figures(
    folder: Path, evaluation: Evaluation, samples: Samples, found: NDArray[np.float32], say: Say
) -> list[Path]:
    """Figures help, but the scores do not need them: without matplotlib there are none."""
    try:
        from model.plots import draw_curves
        from model.score_plots import draw_scores
        from model.timeline import draw_timelines
    except ImportError:
        say("no figures: matplotlib is missing → pip install 'viptt[train]'")
        return []
    name = f"{folder.resolve().name} on {evaluation.dataset}"
    truth = np.array(samples.labels)
    drawn = draw_scores(folder, evaluation.scores, truth, found, f"{name}, {evaluation.split}")
    if places := _places(samples):
        label = (truth, found.argmax(axis=1), tuple(_groups(samples)), tuple(places))
        runs = {folder.resolve().name: Judged(_ids(samples), *label)}
        drawn += draw_timelines(folder, runs, samples.store.header.classes, evaluation.dataset)
    history = read_history(folder)
    return [*drawn, *(draw_curves(folder / "curves", history, name) if history else [])]


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """The content of metrics.json, and of ``viptt evaluate --json``."""
    return {
        **{name: value for name, value in vars(evaluation).items() if name != "levels"},
        "stacks": evaluation.stacks and asdict(evaluation.stacks),
        "scores": scores.as_json(evaluation.scores),
        "reliability": _bins(evaluation.reliability),
        "levels": [
            {"unit": level.unit, "rule": level.rule, "scores": scores.as_json(level.scores)}
            for level in evaluation.levels
        ],
    }


def _bins(curve: Reliability) -> Mapping[str, list[float | None]]:
    """The reliability curve; None in place of NaN, which JSON does not know."""
    return {
        name: [None if np.isnan(value) else float(value) for value in column]
        for name, column in vars(curve).items()
    }


# --- which samples ------------------------------------------------------------------------------


def _samples(
    config: Config, store: str | Path | None, split_file: str | Path | None, name: str, say: Say
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
    window = config.settings.window
    every = Settings(window=window and window.at_each)
    return chosen_samples(samples, every, say=say), describe(opened, file).split_digest


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
