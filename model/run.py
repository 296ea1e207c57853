"""A run: one training in one folder, complete enough to be resumed, evaluated and compared.

    RUN/
      config.json          settings, what it was trained on, versions; written first
      model.weights.h5     the weights with the lowest validation loss, beside them their .sha256
      state.npz            where training stands; what resuming reads
      history.csv          a row per epoch
      tensorboard/         the same rows as events
      metrics.json, predictions.csv      what evaluating found

Weights are only ever loaded into a network that is built from code, by what config.json says.
"""

import csv
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from model.network import MODELS
from model.weights import file_sha256, load_body, load_weights
from pipeline.errors import ConfigError, IntegrityError, ResourceError
from pipeline.store import Json, Store, write_durably

FORMAT = 1
CONFIG, WEIGHTS, STATE, HISTORY = "config.json", "model.weights.h5", "state.npz", "history.csv"
EVENTS = "tensorboard"
OPTIMIZERS = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}
PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "h5py")
ANGLES_2021 = (0.0, 0.0, -20.0, -10.0, -5.0, 5.0, 10.0, 20.0)
OTHER_RUN = "give another `--run DIR`"


@dataclass(frozen=True)
class Strategy:
    """A row of the paper's Table 1: what a training starts from, and how it meets few samples."""

    pretrained: bool
    class_weights: bool
    rotations: bool


STRATEGIES = {
    "no-pt": Strategy(pretrained=False, class_weights=False, rotations=False),
    "pt": Strategy(pretrained=True, class_weights=False, rotations=False),
    "pt+cw": Strategy(pretrained=True, class_weights=True, rotations=False),
    "pt+cw+aug": Strategy(pretrained=True, class_weights=True, rotations=True),
}


@dataclass(frozen=True)
class Settings:
    """Everything that the user decides about a training; the defaults are the paper's.

    ``weights`` are the backbone's: "imagenet", "none", or from a run or a file; None leaves it to
    the network. ``init`` is a run or a weights file whose layers, but for the last, are taken over.
    ``freeze_backbone`` None means frozen where the store holds videos. ``remat`` computes the
    backbone's activations twice instead of keeping them. ``angles``, in degrees, are drawn evenly.
    ``checkpoint_s`` are the seconds between two checkpoints within an epoch. ``from_features`` trains
    LSTM and head on the store's features, with the backbone frozen and the adapter gray.
    """

    strategy: str = "no-pt"
    model: str = "viptt-net"
    weights: str | None = None
    init: str | None = None
    freeze_backbone: bool | None = None
    epochs: int = 100
    batch_size: int = 2
    optimizer: str = "sgd"
    learning_rate: float = 0.001
    plateau_patience: int = 5
    stop_patience: int = 8
    seed: int = 0
    deterministic: bool = False
    mixed_precision: bool = False
    jit_compile: bool = False
    remat: bool = False
    angles: tuple[float, ...] = (-20.0, -10.0, -5.0, 0.0, 5.0, 10.0, 20.0)
    checkpoint_s: float = 300.0
    from_features: bool = False

    def __post_init__(self) -> None:
        _one_of("--strategy", self.strategy, STRATEGIES)
        _one_of("--model", self.model, MODELS)
        _one_of("--optimizer", self.optimizer, OPTIMIZERS)
        for name in ("epochs", "batch_size", "plateau_patience", "stop_patience"):
            _at_least_one(f"--{name.replace('_', '-')}", getattr(self, name))
        if not 0 < self.learning_rate < float("inf"):
            reason = f"{self.learning_rate} is no rate"
            raise ConfigError.of("--learning-rate", "bad-value", reason, "give a number above 0")
        self._check_init()
        self._check_features()

    def _check_features(self) -> None:
        unfit = {
            f"--strategy {self.strategy}": STRATEGIES[self.strategy].rotations,
            "--no-freeze": self.freeze_backbone is False,
            "--remat": self.remat,
        }
        for option, given in unfit.items():
            if self.from_features and given:
                reason = "features are what a frozen backbone makes of whole volumes, once for all"
                raise ConfigError.of(option, "not-from-features", reason, "leave out it or `--from-features`")

    def _check_init(self) -> None:
        pretrained = STRATEGIES[self.strategy].pretrained
        if pretrained and self.init is None:
            reason = f"strategy {self.strategy!r} starts from a network trained on videos"
            remedy = "train on the videos first, then give `--init RUN`"
            raise ConfigError.of("--init", "no-init", reason, remedy)
        if self.init is not None and not pretrained:
            reason = f"strategy {self.strategy!r} starts without pretraining"
            remedy = "leave `--init` out, or give `--strategy pt`"
            raise ConfigError.of("--init", "needless-init", reason, remedy)
        if self.init is not None and self.weights not in (None, "none"):
            reason = "`--init` gives the backbone its weights, too"
            raise ConfigError.of("--weights", "needless-weights", reason, "leave one of them out")

    @property
    def start(self) -> Path | None:
        """The weights file that ``init`` or ``weights`` names; raises ConfigError if it is not there."""
        named = self.init or self.weights
        return None if named in (None, "none", "imagenet") else weights_file(named)


def _one_of(option: str, value: str, known: Mapping[str, object]) -> None:
    if value not in known:
        raise ConfigError.of(
            option, "unknown-name", f"there is no {value!r}", f"give one of: {', '.join(known)}"
        )


def _at_least_one(option: str, value: int) -> None:
    if value < 1:
        raise ConfigError.of(option, "bad-value", f"{value} is less than 1", "give 1 or more")


def settings_for(recipe: Json, **given: Any) -> Settings:
    """The settings that a user gives, over the defaults that suit a store's recipe.

    The preset ``viptt-2021`` trains as the notebooks of 2021 did: clips one by one, scans for up to
    1000 epochs, and an angle of 0 as likely as any two others. The other defaults are theirs already.
    """
    if recipe.get("preset") != "viptt-2021":
        return Settings(**given)
    usual = {"batch_size": 1} if recipe["type"] == "video" else {"epochs": 1000}
    return Settings(**{"angles": ANGLES_2021, **usual, **given})


@dataclass(frozen=True)
class Data:
    """What a run was trained on; digests are ``sha256:…``, paths absolute, the recipe as in the store.

    ``features_digest`` is that of the features it was trained on in place of the volumes.
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

    @property
    def type(self) -> str:
        """What the sources are: "nifti" or "video"."""
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
        store=str(store.path.resolve()),
        store_digest=store.digest,
        split=str(split_file.resolve()),
        split_digest=f"sha256:{file_sha256(split_file)}",
        classes=store.header.classes,
        shape=(depth, height, width, 1),
        recipe=store.header.recipe,
    )


def versions() -> dict[str, str]:
    """Versions of what decides the numbers of a training."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


# --- the folder ---------------------------------------------------------------------------------


def check_new(folder: Path) -> None:
    """Raise ConfigError unless the folder can become that of a new run: nothing is there already."""
    if (folder / CONFIG).exists():
        remedy = "add `--resume` to go on with it, or " + OTHER_RUN
        raise ConfigError.of(folder, "run-exists", "there is a run in this folder", remedy)
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
    """Write config.json."""
    document = {"format": FORMAT, **asdict(config)}
    write_durably(folder / CONFIG, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())


def read_config(folder: Path) -> Config:
    """Read config.json; raises ConfigError if the folder is no run, IntegrityError if it is damaged."""
    path = folder / CONFIG
    if not path.is_file():
        raise ConfigError.of(
            folder, "not-a-run", f"it holds no {CONFIG}", "give a folder that `viptt train` made"
        )
    try:
        document = json.loads(path.read_bytes())
        data = document["data"]
        lists = {"classes": tuple(data["classes"]), "shape": tuple(data["shape"])}
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r} instead of {FORMAT}")
        chosen = {**document["settings"], "angles": tuple(document["settings"]["angles"])}
        data = Data(**{**data, **lists})
        return Config(Settings(**chosen), data, document["versions"], document["init_sha256"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"not the configuration of a run of this version: {error!r}"
        raise IntegrityError.of(path, "config-damaged", reason, "train again") from error


def read_history(folder: Path) -> list[dict[str, float]]:
    """The rows of history.csv; none where no epoch was finished."""
    try:
        with (folder / HISTORY).open(newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise IntegrityError.of(folder / HISTORY, "history-damaged", str(error), "train again") from error


def weights_file(name: str | Path) -> Path:
    """The weights that ``--init`` or ``--weights`` names: those of a run, or a file."""
    path = Path(name)
    if path.is_dir():
        read_config(path)
        path = path / WEIGHTS
    if not path.is_file():
        raise ConfigError.of(path, "no-weights", "there is no such file", "give a run, or a weights file")
    return path


def build_network(settings: Settings, shape: tuple[int, int, int, int], classes: int) -> keras.Model:
    """The network that these settings start from, with the weights that they name."""
    start = settings.start
    weights = "none" if settings.init else str(start) if start else settings.weights
    given = {} if weights is None else {"weights": weights}
    net = MODELS[settings.model](shape, classes, **given)
    if settings.init and start:
        load_body(net, start)
    return net


def load_network(folder: Path) -> tuple[Config, keras.Model]:
    """Build the network of a run and load its best weights.

    Raises ConfigError if the folder is no run or training has not finished an epoch, IntegrityError
    if a file of it is damaged.
    """
    config = read_config(folder)
    if not (folder / WEIGHTS).is_file():
        reason = "it has no weights yet: no epoch was finished"
        raise ConfigError.of(folder, "no-weights", reason, "finish it with `viptt train … --resume`")
    net = MODELS[config.settings.model](config.data.shape, len(config.data.classes), weights="none")
    load_weights(net, folder / WEIGHTS)
    return config, net
