"""Predictions of one run, or of several whose probabilities are averaged, for stores and new volumes.

Volumes are (depth, height, width) as a store holds them: [0, 1] in float16 or float32, or uint8 for
value x 255. Probabilities are in the order of the run's classes.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from model.explain import explain
from model.metrics import check_finite
from model.metrics import predict as predict_part
from model.run import Data, load_network
from model.stream import Part, bind, scaled
from pipeline.errors import ConfigError, ResourceError, inert
from pipeline.split import read_split
from pipeline.store import Store

Volume = NDArray[Any]
INSTEAD = "name the folder of its files instead, or build it with the run's recipe"


@dataclass(frozen=True)
class Ensemble:
    """The networks of one or more runs, and the data that the first was trained on."""

    data: Data
    nets: tuple[keras.Model, ...]


@dataclass(frozen=True)
class Prediction:
    """What a sample is taken for; ``source`` is its file, ``label`` an index into the classes."""

    id: str
    source: str
    probabilities: tuple[float, ...]

    @property
    def label(self) -> int:
        """The class with the highest probability; of several, the first."""
        return self.probabilities.index(max(self.probabilities))


class NewVolume(Protocol):
    """A volume of the run's recipe that lies in no store, and the file that it was made of."""

    @property
    def id(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def volume(self) -> Volume: ...


def load_ensemble(folders: Sequence[Path]) -> Ensemble:
    """Load the networks of runs that know the same classes and read volumes of the same recipe.

    Raises ConfigError if a folder is no run, has no weights, or does not go with the first,
    IntegrityError if a file of it is damaged.
    """
    configs, nets = zip(*map(load_network, folders), strict=True)
    first = configs[0].data
    for folder, config in zip(folders, configs, strict=True):
        for name in ("classes", "shape", "recipe"):
            if getattr(config.data, name) != getattr(first, name):
                reason = f"its {name} and those of {folders[0]} differ"
                raise ConfigError.of(folder, f"other-{name}", reason, "average runs of the same data only")
    return Ensemble(first, nets)


def predict_volumes(
    ensemble: Ensemble, volumes: Iterable[NewVolume], *, batch_size: int, pictures: Path | None = None
) -> Iterator[Prediction]:
    """Predict volumes as they come, holding no more than a batch of them.

    With ``pictures``, a folder, each decision is explained there. Raises IntegrityError if a
    network gives numbers that are not finite.
    """
    coming = iter(volumes)
    while batch := list(islice(coming, batch_size)):
        values = np.stack([_as_seen(item.volume, ensemble) for item in batch])[..., np.newaxis]
        found = [np.asarray(net.predict_on_batch(values)) for net in ensemble.nets]
        predictions = _averaged([item.id for item in batch], [item.source for item in batch], found)
        for prediction, item in zip(predictions, batch, strict=True):
            if pictures:
                draw(pictures, ensemble, prediction, item.volume)
            yield prediction


def predict_store(
    ensemble: Ensemble, part: Part, *, batch_size: int, pictures: Path | None = None
) -> Iterator[Prediction]:
    """Predict samples of a store. Raises IntegrityError as ``predict_volumes``, and if one is damaged."""
    found = [predict_part(net, part, batch_size=batch_size) for net in ensemble.nets]
    sources = [part.store.rows[row].source for row in part.rows]
    for prediction, row in zip(_averaged(part.ids, sources, found), part.rows, strict=True):
        if pictures:
            draw(pictures, ensemble, prediction, part.store.read(row))
        yield prediction


def samples_of(store: Store, data: Data, split_file: Path, part: str | None) -> Part:
    """All samples of a store, or those of one part of its split.

    Raises ConfigError if the store was built with another recipe than that of the run, or the part
    is empty, IntegrityError if the split does not belong to the store.
    """
    if store.header.recipe != data.recipe:
        reason = f"it was built with {_differences(store.header.recipe, data.recipe)}"
        raise ConfigError.of(store.path, "other-recipe", reason, INSTEAD)
    if part is None:
        return Part(store, "all", tuple(row.id for row in store.rows), tuple(range(len(store.rows))))
    bound = bind(store, read_split(split_file), part, where=str(split_file))
    if not bound.ids:
        raise ConfigError.of(split_file, "empty-part", f"its part {part!r} is empty", "name another part")
    return bound


def _differences(built: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """`shape [5, 16, 16] instead of [70, 224, 224]`, and so on."""
    keys = [key for key in {**wanted, **built} if built.get(key) != wanted.get(key)]
    return ", ".join(f"{key} {built.get(key)} instead of {wanted.get(key)}" for key in keys)


def _as_seen(volume: Volume, ensemble: Ensemble) -> NDArray[np.float32]:
    values: NDArray[np.float32] = scaled(volume.astype(np.float32), ensemble.data.recipe)
    return values


def _averaged(
    ids: Sequence[str], sources: Sequence[str], found: Sequence[NDArray[np.float32]]
) -> list[Prediction]:
    probabilities = np.mean(found, axis=0)
    check_finite(ids, probabilities)
    rows = [tuple(map(float, row)) for row in probabilities]
    return [Prediction(*fields) for fields in zip(ids, sources, rows, strict=True)]


# --- tables -------------------------------------------------------------------------------------


def table(predictions: Iterable[Prediction], classes: Sequence[str]) -> str:
    """CSV: id, predicted class, the probability of each class. Names that look like formulas get a `'`."""
    rows = [["id", "predicted", *map(inert, classes)]]
    for item in predictions:
        numbers = [f"{value:.6g}" for value in item.probabilities]
        rows.append([inert(item.id), inert(classes[item.label]), *numbers])
    # Before Python 3.13, csv quotes a CR only where lines end with one.
    odd = any("\r" in cell for row in rows for cell in row)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL)
    writer.writerows(rows)
    return text.getvalue().removesuffix("\n")


def as_json(prediction: Prediction, classes: Sequence[str]) -> dict[str, Any]:
    """A prediction as it stands in the JSON document."""
    return {
        "id": prediction.id,
        "source": prediction.source,
        "predicted": classes[prediction.label],
        "probabilities": dict(zip(classes, prediction.probabilities, strict=True)),
    }


def check_submission(sources: Sequence[str]) -> None:
    """Raise ConfigError unless a submission, which has no quotes and no folders, can tell files apart."""
    names = [PurePosixPath(source).name for source in sources]
    twice = [name for name, count in Counter(names).items() if count > 1]
    unwritable = [name for name in names if "," in name or not name.isprintable()]
    if twice or unwritable:
        reason = (
            f"files share the name {twice[0]!r}"
            if twice
            else f"{unwritable[0]!r} has a comma or a line break"
        )
        raise ConfigError.of("--submission", "bad-name", reason, "rename it, or predict without --submission")


def submission(predictions: Iterable[Prediction]) -> str:
    """What ImageCLEF takes: file name, comma, class from 1, a line each, no header."""
    lines = [f"{PurePosixPath(item.source).name},{item.label + 1}\n" for item in predictions]
    return "".join(lines)


# --- pictures -----------------------------------------------------------------------------------


def draw(folder: Path, ensemble: Ensemble, prediction: Prediction, volume: Volume) -> None:
    """Draw what moved a decision as ``ID.png``. Raises ResourceError if the folder cannot be written."""
    from model.plots import draw_explanation

    values = _as_seen(volume, ensemble)
    found = explain(ensemble.nets, values)
    title = f"{prediction.id}: {ensemble.data.classes[found.label]}, probability {found.probability:.3f}"
    try:
        draw_explanation(folder / f"{_safe(prediction.id)}.png", values, found, title)
    except OSError as error:
        remedy = "free space, fix permissions, or give another `--explain DIR`"
        raise ResourceError.of(folder, "cannot-write", str(error.strerror), remedy) from error


def _safe(sample: str) -> str:
    """An id as the name of a file in this very folder; no two ids share one."""
    return "".join(f"%{ord(sign):02X}" if sign in "/\\%" or sign < " " else sign for sign in sample)
