"""Predictions of one run, or of several whose probabilities are averaged, for stores and new volumes.

Volumes are (depth, height, width) as a store holds them: [0, 1] in float16 or float32, or uint8 for
value x 255. Probabilities are in the order of the run's classes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from model.explained import check_explainable, draw_picture, draw_scans, draw_volume
from model.loading import load_network
from model.predictions import TIMELINES, Prediction, check_submission
from model.run_folder import Data
from model.settings import Settings
from model.stream import Samples, batches, bind, chosen_samples, integrity_errors, scaled
from model.windows import NewVolume, Refuse, Volume, is_of_pictures, windows_of
from pipeline.errors import ConfigError, IntegrityError
from pipeline.split import read_split
from pipeline.store import Store, open_store

Say = Callable[[str], None]
INSTEAD = "name the folder of its files instead, or build it with the run's recipe"


@dataclass(frozen=True)
class Ensemble:
    """The networks of one or more runs, the data that the first was trained on, and its settings."""

    data: Data
    nets: tuple[keras.Model, ...]
    settings: Settings


def load_ensemble(
    folders: Sequence[Path],
    *,
    explained: bool = False,
    over_time: bool = False,
    say: Say = lambda line: None,
) -> Ensemble:
    """Load the networks of runs that know the same classes and read volumes of the same recipe.

    ``explained`` says that their decisions will be, ``over_time`` that they will be drawn along a stack.
    Raises ConfigError if a folder is no run, has no weights, differs from the first, or cannot be explained
    or drawn, IntegrityError if a file is damaged.
    """
    configs, nets = zip(*map(load_network, folders), strict=True)
    first = configs[0].data
    if over_time and not is_of_pictures(first.recipe):
        reason = "the run has one prediction for a whole stack, and none over time"
        raise ConfigError.of(TIMELINES, "no-pictures", reason, "leave it out")
    if explained:
        for config, net in zip(configs, nets, strict=True):
            check_explainable(config, net)
    # A mean over probabilities makes sense only if each column is the same class.
    for folder, config in zip(folders, configs, strict=True):
        for name in ("classes", "shape", "recipe"):
            if getattr(config.data, name) != getattr(first, name):
                reason = f"its {name} and those of {folders[0]} differ"
                raise ConfigError.of(folder, f"other-{name}", reason, "average runs of the same data only")
        if config.settings.window != configs[0].settings.window:
            reason = f"its windows and those of {folders[0]} differ"
            raise ConfigError.of(folder, "other-shape", reason, "average runs of the same data only")
    if len(folders) > 1:
        say(f"averaging {len(folders)} runs: {', '.join(map(str, folders))}")
    return Ensemble(first, nets, configs[0].settings)


def predict_volumes(
    ensemble: Ensemble,
    volumes: Iterable[NewVolume],
    *,
    batch_size: int,
    refuse: Refuse,
    pictures: Path | None = None,
) -> Iterator[Prediction]:
    """Predict volumes as they come, holding no more than a batch of them in memory.

    ``refuse`` is called for a source that is too short for a window. With ``pictures``, a folder, each
    decision is explained there. Raises IntegrityError if a network gives numbers that are not finite.
    """
    window = ensemble.settings.window
    waiting = windows_of(volumes, window.length, refuse=refuse) if window else iter(volumes)
    found = _predicted(ensemble, waiting, batch_size)
    if pictures is None:
        return (prediction for prediction, _ in found)
    return _drawn(pictures, ensemble, found)


def _predicted(
    ensemble: Ensemble, waiting: Iterator[NewVolume], batch_size: int
) -> Iterator[tuple[Prediction, Volume]]:
    while batch := list(islice(waiting, batch_size)):
        values = np.stack([_network_input(item.volume, ensemble) for item in batch])
        values = values.reshape(len(batch), *ensemble.nets[0].input_shape[1:])
        found = [np.asarray(net.predict_on_batch(values)) for net in ensemble.nets]
        known = [
            Prediction(item.id, item.source, (), item.stack, item.position, item.facts) for item in batch
        ]
        predictions = _averaged(known, found)
        yield from zip(predictions, (item.volume for item in batch), strict=True)


def _drawn(
    folder: Path, ensemble: Ensemble, found: Iterable[tuple[Prediction, Volume]]
) -> Iterator[Prediction]:
    """The predictions, after a picture was drawn of each; of the slices of a scan, one together at last."""
    nets, classes, kept = ensemble.nets, ensemble.data.classes, list[Prediction]()
    for prediction, volume in found:
        values = _network_input(volume, ensemble)
        if is_of_pictures(ensemble.data.recipe):
            draw_picture(folder, nets, classes, prediction, values)
            kept.append(prediction)
        else:
            draw_volume(folder, nets, ensemble.data, prediction, values)
        yield prediction
    draw_scans(folder, classes, kept)


def predict_dataset(
    ensemble: Ensemble,
    store: Path,
    split_file: Path,
    split: str | None,
    *,
    submission: Path | None = None,
    say: Say = lambda line: None,
    **how: Any,
) -> list[Prediction]:
    """Predict all samples of a store, or those of one split; ``how`` goes to ``predict_store``.

    With ``submission``, file names must suit one. Raises as ``samples_of``, ``check_submission`` and
    ``predict_store`` do.
    """
    # Whatever can be refused is refused before the first volume is read.
    samples = samples_of(open_store(store), ensemble, split_file, split, say=say)
    if submission:
        check_submission([samples.store.rows[row].source for row in samples.rows])
    say(f"predicting {len(samples.ids)} samples of {samples.store.header.dataset}")
    return list(predict_store(ensemble, samples, **how))


def predict_store(
    ensemble: Ensemble, samples: Samples, *, batch_size: int, pictures: Path | None = None
) -> Iterator[Prediction]:
    """Predict samples of a store. Raises IntegrityError as ``predict_volumes``, and if one is damaged."""
    found = [probabilities(net, samples, batch_size=batch_size) for net in ensemble.nets]
    rows = [samples.store.rows[row] for row in samples.labelled_rows]
    known = [
        Prediction(row.id, row.source, (), row.stack, row.position, row.facts, row.label) for row in rows
    ]
    predictions = _averaged(known, found)
    if pictures is None:
        return iter(predictions)
    volumes = map(samples.store.read, samples.rows)
    return _drawn(pictures, ensemble, zip(predictions, volumes, strict=True))


def probabilities(net: keras.Model, samples: Samples, *, batch_size: int) -> NDArray[np.float32]:
    """Class probabilities (samples, classes) of stored samples, in their order.

    Raises IntegrityError if a volume is damaged, or the network gives numbers that are not finite.
    """
    with integrity_errors():
        found = np.asarray(net.predict(batches(samples, batch_size=batch_size), verbose=0))
    # Keras ends silently where a stream ends early; a missing prediction must not shift the others.
    if found.shape != (len(samples.ids), net.output_shape[-1]):
        reason = f"{found.shape} predictions for {len(samples.ids)} samples"
        raise IntegrityError.of(samples.store.path, "incomplete", reason, "run `viptt verify`")
    _check_finite(samples.ids, found)
    return found


def _check_finite(ids: Sequence[str], found: NDArray[np.float32]) -> None:
    """Raise IntegrityError, naming the first sample with a probability that is not finite."""
    finite = np.isfinite(found).all(axis=1)
    if not finite.all():
        bad = ids[int(np.argmin(finite))]
        raise IntegrityError.of(f"sample {bad}", "non-finite", "the network predicts NaN", "train again")


def samples_of(
    store: Store,
    ensemble: Ensemble,
    split_file: Path,
    split: str | None,
    *,
    say: Say = lambda line: None,
) -> Samples:
    """All samples of a store, or those of one split: every picture, or a window that ends at each.

    ``say`` gets a line on stacks too short for a window. Raises ConfigError if the store was built with
    another recipe than that of the run, or the split is empty, IntegrityError if the split file does not
    belong to the store.
    """
    data, window = ensemble.data, ensemble.settings.window
    wanted = Settings(window=window and window.at_each)
    # Another window or shape gives plausible volumes, and wrong predictions without any error.
    if store.header.recipe != data.recipe:
        reason = f"it was built with {_differences(store.header.recipe, data.recipe)}"
        raise ConfigError.of(store.path, "other-recipe", reason, INSTEAD)
    if split is None:
        every = Samples(store, "all", tuple(row.id for row in store.rows), tuple(range(len(store.rows))))
        return chosen_samples(every, wanted, say=say)
    samples = bind(store, read_split(split_file), split, where=str(split_file))
    if not samples.ids:
        raise ConfigError.of(split_file, "empty-split", f"its split {split!r} is empty", "name another one")
    return chosen_samples(samples, wanted, say=say)


def _differences(built: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """`shape [5, 16, 16] instead of [70, 224, 224]`, and so on."""
    keys = [key for key in {**wanted, **built} if built.get(key) != wanted.get(key)]
    return ", ".join(f"{key} {built.get(key)} instead of {wanted.get(key)}" for key in keys)


def _network_input(volume: Volume, ensemble: Ensemble) -> NDArray[np.float32]:
    values: NDArray[np.float32] = scaled(volume.astype(np.float32), ensemble.data.recipe)
    return values


def _averaged(samples: Sequence[Prediction], found: Sequence[NDArray[np.float32]]) -> list[Prediction]:
    """The samples with the mean of what each network found for them."""
    # Probabilities, not votes: a hesitant network then counts for less than a certain one.
    mean = np.mean(found, axis=0)
    _check_finite([sample.id for sample in samples], mean)
    return [
        replace(sample, probabilities=tuple(map(float, row)))
        for sample, row in zip(samples, mean, strict=True)
    ]
