"""The folder of a run: what lies where, read and written so that it is whole or not there.

    RUN/
      config.json          settings, what it was trained on, versions; written first, ends with its own hash
      model.weights.h5     the weights with the lowest validation loss, with their .sha256 beside them
      state.npz            where training stands; what `--resume` reads
      history.csv          a row per epoch
      tensorboard/         the same rows as events
      metrics.json, predictions.csv      what `viptt evaluate` found; beside them its figures, PNG and SVG,
      and network.svg                    the layers of the network
      report.html, README.md             what `viptt report` writes: a page, and with `--cards` a model card

Importing this module needs no TensorFlow.
"""

import csv
import hashlib
import io
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from model.documents import parse
from model.settings import Settings
from model.sidecar import file_sha256
from pipeline.errors import ConfigError, IntegrityError, ResourceError
from pipeline.store import Json, Store, canonical_json, write_durably

FORMAT = 2
UNHASHED_FORMAT = 1  # of viptt 0.1.0: the same without the hash
CONFIG, WEIGHTS, STATE, HISTORY = "config.json", "model.weights.h5", "state.npz", "history.csv"
METRICS, PREDICTIONS, EVENTS = "metrics.json", "predictions.csv", "tensorboard"
NETWORK = "network.svg"
PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "h5py")
# Remedies that several errors share.
OTHER_RUN = "give another `--run DIR`"
TRAIN_AGAIN = "train again"
EVALUATE_AGAIN = "run `viptt evaluate` again"


@dataclass(frozen=True)
class Data:
    """What a run was trained on; digests are ``sha256:…``, paths absolute, the recipe as in the store.

    ``shape`` is that of a stored volume, (depth, height, width, channels). ``features_digest`` is that of
    the features store, where the run was trained on features in place of the volumes. ``statistics`` are
    mean and deviation of the train part, where the network standardises by them.
    """

    dataset: str
    store: str
    store_digest: str
    split: str
    split_digest: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int, int]
    recipe: Json
    features_digest: str | None = None
    statistics: tuple[float, float] | None = None

    @property
    def type(self) -> str:
        """What the sources are, such as "nifti" or "video"."""
        return str(self.recipe["type"])


@dataclass(frozen=True)
class Config:
    """The content of config.json; ``init_sha256`` is that of the weights file it started from."""

    settings: Settings
    data: Data
    versions: Mapping[str, str] = field(default_factory=dict)
    init_sha256: str | None = None


def describe(store: Store, split_file: Path) -> Data:
    """What a run has to remember of a store and a split file."""
    depth, height, width = store.header.shape
    return Data(
        dataset=store.header.dataset,
        # Absolute, since a run may be used from another folder than it was made in.
        store=str(store.path.resolve()),
        store_digest=store.digest,
        split=str(split_file.resolve()),
        split_digest=f"sha256:{file_sha256(split_file)}",
        classes=store.header.classes,
        shape=(depth, height, width, 1),
        recipe=store.header.recipe,
    )


def versions() -> dict[str, str]:
    """Versions of the packages that decide the numbers of a training."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


# --- config.json --------------------------------------------------------------------------------


def check_new(folder: Path) -> None:
    """Raise ConfigError unless the folder can become that of a new run: nothing is there already."""
    if (folder / CONFIG).exists():
        remedy = f"add `--resume` to continue it, or {OTHER_RUN}"
        raise ConfigError.of(folder, "run-exists", "there is a run in this folder", remedy)
    # Never fill a folder of other files: a run is deleted as a whole one day.
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError.of(folder, "not-a-run", "the folder is not empty and holds no run", OTHER_RUN)


def create_run(folder: Path, config: Config) -> None:
    """Make the folder of a new run; raises as ``check_new``, ResourceError if it cannot be written."""
    check_new(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError.of(folder, "cannot-write", str(error.strerror), OTHER_RUN) from error
    write_config(folder, config)


def write_config(folder: Path, config: Config) -> None:
    """Write config.json with the hash of its content."""
    document = {"format": FORMAT, **asdict(config)}
    write_json(folder / CONFIG, {**document, "sha256": _sha256(document)})


def read_config(folder: Path) -> Config:
    """Read config.json.

    Raises ConfigError if the folder holds no run, IntegrityError if the file is damaged or was edited:
    other classes or another window would silently change what the weights mean.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ConfigError.of(
            folder, "not-a-run", f"it holds no {CONFIG}", "give a folder that `viptt train` made"
        )
    try:
        document = json.loads(path.read_bytes())
        # The hash is over the content, so that a change of layout or encoding does no harm.
        recorded = _unwrapped(document)
        if recorded not in (None, _sha256({"format": FORMAT, **document})):
            reason = "its content is not what `viptt train` wrote"
            raise IntegrityError.of(
                path, "config-changed", reason, f"undo the change, or {TRAIN_AGAIN} with other options"
            )
        return parse(Config, document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError) as error:
        reason = f"not the configuration of a run of this version: {error}"
        raise IntegrityError.of(path, "config-damaged", reason, TRAIN_AGAIN) from error


def _unwrapped(document: dict[str, Any]) -> str | None:
    """Take format and hash off a document; the hash, None where the format has none."""
    found = document.pop("format")
    if found == UNHASHED_FORMAT:
        return None
    if found != FORMAT:
        raise ValueError(f"format {found!r} instead of {FORMAT}")
    # A missing hash is a KeyError here: leaving it out does not help an edited file.
    return str(document.pop("sha256"))


def _sha256(document: Json) -> str:
    return hashlib.sha256(canonical_json(document)).hexdigest()


# --- the other files ----------------------------------------------------------------------------


def write_json(path: Path, document: Json) -> None:
    """Write a document for people and programs, whole or not at all."""
    write_durably(path, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())


def write_history(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write history.csv, a row per epoch."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(history[0]))
    writer.writeheader()
    writer.writerows(history)
    write_durably(folder / HISTORY, text.getvalue().encode())


def read_history(folder: Path) -> list[dict[str, float]]:
    """The rows of history.csv; none where no epoch was finished."""
    try:
        with (folder / HISTORY).open(newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise IntegrityError.of(folder / HISTORY, "history-damaged", str(error), TRAIN_AGAIN) from error


def read_metrics(folder: Path) -> dict[str, Any] | None:
    """The content of metrics.json; None where there is none. Raises IntegrityError if it is damaged."""
    path = folder / METRICS
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise IntegrityError.of(path, "metrics-damaged", str(error), EVALUATE_AGAIN) from error
    return document


def is_outdated(folder: Path, metrics: Mapping[str, Any]) -> bool:
    """Whether a run was trained on since it was evaluated; 0.1.0 did not write the hash of the weights."""
    weights, sha256 = folder / WEIGHTS, metrics.get("weights_sha256")
    return sha256 is not None and weights.is_file() and file_sha256(weights) != sha256
