"""The settings of a training: typed, frozen, the same on the command line and in a run's config.json.

A field made by ``_option`` is an option of ``viptt train``: its name with dashes, its help text, its
default. The others can be set from Python only. Importing this module needs no TensorFlow.
"""

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from model import preset_2021
from pipeline.errors import ConfigError

# The classes behind these names are in `model.trainer`: Keras is slow to import.
OPTIMIZERS = ("sgd", "adam")
ANGLES = (-20.0, -10.0, -5.0, 0.0, 5.0, 10.0, 20.0)


@dataclass(frozen=True)
class Strategy:
    """A row of the paper's Table 1: what a training starts from, and how it copes with few samples."""

    pretrained: bool
    class_weights: bool
    rotations: bool


STRATEGIES = {
    "no-pt": Strategy(pretrained=False, class_weights=False, rotations=False),
    "pt": Strategy(pretrained=True, class_weights=False, rotations=False),
    "pt+cw": Strategy(pretrained=True, class_weights=True, rotations=False),
    "pt+cw+aug": Strategy(pretrained=True, class_weights=True, rotations=True),
}


def _option(default: Any, text: str, **details: Any) -> Any:
    """A field that is an option; ``details`` are ``metavar``, ``choices``, ``flags`` in place of its name."""
    return field(default=default, metadata={"help": text, **details})


@dataclass(frozen=True)
class Settings:
    """Everything that the user decides about a training; the defaults are the paper's.

    ``weights`` None leaves the backbone's weights to the network. ``init`` is a run or a weights file
    from which all layers but the last are taken. ``freeze_backbone`` None means frozen for videos.
    ``angles``, in degrees, are equally likely. ``checkpoint_s`` are the seconds between two
    checkpoints within an epoch. ``from_features`` freezes the backbone and fixes the adapter.
    """

    strategy: str = _option(
        "no-pt",
        "Row of the paper's Table 1: what to start from, class weights, augmentation.  [default: no-pt]",
        choices=tuple(STRATEGIES),
    )
    init: str | None = _option(
        None, "Start from these weights, except for the last layer.", metavar="WEIGHTS|RUN"
    )
    model: str = _option("viptt-net", "Name of the network.  [default: viptt-net]")
    weights: str | None = _option(
        None, "Weights of the backbone.  [default: imagenet]", metavar="imagenet|none|FILE|RUN"
    )
    freeze_backbone: bool | None = _option(
        None,
        "Keep the weights of the backbone as they are.  [default: for videos]",
        flags="--freeze/--no-freeze",
    )
    epochs: int = _option(100, "Maximum number of epochs.  [default: 100; 1000 for scans of viptt-2021]")
    batch_size: int = _option(2, "Samples per training step.  [default: 2; 1 for clips of viptt-2021]")
    optimizer: str = _option("sgd", "[default: sgd]", choices=OPTIMIZERS)
    learning_rate: float = _option(0.001, "[default: 0.001]")
    plateau_patience: int = _option(
        5, "Epochs without a lower validation loss until the learning rate is divided by 10.  [default: 5]"
    )
    stop_patience: int = _option(
        8, "Epochs without a lower validation loss until training stops.  [default: 8]"
    )
    seed: int = _option(0, "Seed of the random weights and of the order of the samples.  [default: 0]")
    deterministic: bool = _option(False, "Give the same weights every time; slower.")
    mixed_precision: bool = _option(False, "Compute in float16 where that is safe.")
    jit_compile: bool = _option(False, "Compile with XLA.")
    from_features: bool = _option(False, "Train LSTM and head on what `viptt features` stored.")
    remat: bool = _option(
        False, "Save memory: compute the backbone's activations twice instead of keeping them."
    )
    angles: tuple[float, ...] = ANGLES
    checkpoint_s: float = 300.0

    def __post_init__(self) -> None:
        _one_of("--strategy", self.strategy, tuple(STRATEGIES))
        _one_of("--optimizer", self.optimizer, OPTIMIZERS)
        for name in ("epochs", "batch_size", "plateau_patience", "stop_patience"):
            _at_least_one(f"--{name.replace('_', '-')}", getattr(self, name))
        # Also false for NaN, which every comparison is.
        if not 0 < self.learning_rate < float("inf"):
            reason = f"{self.learning_rate} is not a learning rate"
            raise ConfigError.of("--learning-rate", "bad-value", reason, "give a number above 0")
        self._check_start()
        self._check_features()

    def _check_start(self) -> None:
        # A forgotten `--init` would train the wrong row of the table, and nobody would see it.
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
            reason = "`--init` also sets the weights of the backbone"
            raise ConfigError.of("--weights", "needless-weights", reason, "leave one of the two out")

    def _check_features(self) -> None:
        # Stored features come from a backbone that is frozen and saw each volume once, unrotated.
        conflicts = {
            f"--strategy {self.strategy}": STRATEGIES[self.strategy].rotations,
            "--no-freeze": self.freeze_backbone is False,
            "--remat": self.remat,
        }
        for option, given in conflicts.items():
            if self.from_features and given:
                reason = "stored features come from a frozen backbone and from volumes without augmentation"
                remedy = f"leave out `{option}` or `--from-features`"
                raise ConfigError.of(option, "not-from-features", reason, remedy)


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        reason = f"there is no {value!r}"
        raise ConfigError.of(option, "unknown-name", reason, f"give one of: {', '.join(known)}")


def _at_least_one(option: str, value: int) -> None:
    if value < 1:
        raise ConfigError.of(option, "bad-value", f"{value} is less than 1", "give 1 or more")


def options(*names: str) -> list[Field[Any]]:
    """The settings that are options of the command line: these, or all of them."""
    known = [setting for setting in fields(Settings) if "help" in setting.metadata]
    return [setting for setting in known if not names or setting.name in names]


def settings_for(recipe: Mapping[str, Any], **given: Any) -> Settings:
    """The settings that the user gives, over the defaults that fit the recipe of a store."""
    # What the user gives wins over the preset, the preset over the usual defaults.
    return Settings(**{**preset_2021.settings(recipe), **given})
