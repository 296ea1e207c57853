"""The settings of a training: typed, frozen, the same on the command line and in a run's config.json.

A field made by ``_option`` is an option of ``viptt train``: its name with dashes, its help text, its
default. Every field can be set in a file, see ``model.config_file``. Importing this module needs no
TensorFlow.
"""

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from model import preset_2021
from pipeline.errors import ConfigError

# The classes behind these names are in `model.optimizers`: Keras is slow to import.
OPTIMIZERS = ("sgd", "adam")
WINDOW_LABELS = ("same", "last")
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


@dataclass(frozen=True)
class Window:
    """Runs of ``length`` neighbouring pictures of a stack, one every ``stride`` pictures, each a sample.

    ``labels`` "same" takes only windows whose pictures all have one label; "last" gives a window the
    label of its last picture.
    """

    length: int = 5
    stride: int = 5
    labels: str = "same"

    def __post_init__(self) -> None:
        _at_least("window.length", self.length, 1)
        _at_least("window.stride", self.stride, 1)
        _one_of("window.labels", self.labels, WINDOW_LABELS)

    @property
    def at_each(self) -> "Window":
        """Windows of this length that end at each picture with enough others before it."""
        return Window(self.length, stride=1, labels="last")


CHOICES = {
    "strategy": tuple(STRATEGIES),
    "optimizer": OPTIMIZERS,
    "preset": ("sononet-2025", "covidnet-ct-id-2022"),
    "standardise": ("none", "train", "picture"),
    "frames": ("all", "selected"),
    "sampler": ("shuffled", "weighted", "oversample", "undersample", "resample", "even-batches"),
    "plateau_threshold_mode": ("abs", "rel"),
    "best": ("loss", "accuracy"),
}


def _option(default: Any, text: str, **details: Any) -> Any:
    """A field that is an option; ``details`` are ``metavar``, ``choices``, ``flags`` in place of its name."""
    return field(default=default, metadata={"help": text, **details})


@dataclass(frozen=True)
class Settings:
    """Everything that the user decides about a training; the defaults are the paper's.

    ``weights`` None leaves the backbone's weights to the network. ``init`` is a run or a weights file
    from which all layers but the last are taken. ``freeze_backbone`` None means frozen for videos.
    ``checkpoint_s`` are the seconds between two checkpoints within an epoch. ``from_features`` freezes
    the backbone and fixes the adapter. What has no comment here is explained in ``docs/training.md``.
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
    # These four were options before there were files of settings; they still are, and are not shown.
    optimizer: str = _option("sgd", "[default: sgd]", choices=OPTIMIZERS, hidden=True)
    learning_rate: float = _option(0.001, "[default: 0.001]", hidden=True)
    plateau_patience: int | None = _option(5, "[default: 5]", type=int, hidden=True)
    stop_patience: int | None = _option(8, "[default: 8]", type=int, hidden=True)
    seed: int = _option(0, "Seed of the random weights and of the order of the samples.  [default: 0]")
    deterministic: bool = _option(False, "Give the same weights every time; slower.")
    mixed_precision: bool = _option(False, "Compute in float16 where that is safe.")
    jit_compile: bool = _option(False, "Compile with XLA.")
    from_features: bool = _option(False, "Train LSTM and head on what `viptt features` stored.")
    remat: bool = _option(
        False, "Save memory: compute the backbone's activations twice instead of keeping them."
    )
    angles: tuple[float, ...] = ANGLES  # degrees, equally likely, of the strategies that rotate
    checkpoint_s: float = 300.0
    # --- the network, as far as it knows these
    preset: str | None = None  # the code of a paper, with its errors
    backbone: str = "vgg16"
    temporal: str = "lstm"
    features: str = "mean"
    width: int = 32
    mid_channels: str = "cout"
    unfreeze: int | None = None  # None: every layer is trained
    standardise: str | None = None  # None: as suits the network
    # --- the samples
    window: Window | None = None
    frames: str = "all"
    sampler: str = "shuffled"
    class_weights: bool | None = None  # None: as the strategy says
    augmentation: tuple[Mapping[str, Mapping[str, Any]], ...] = ()  # name and arguments of each layer
    # --- the steps
    momentum: float = 0.0
    weight_decay: float = 0.0
    plateau_factor: float = 0.1
    plateau_threshold: float = 1e-4
    plateau_threshold_mode: str = "abs"
    best: str = "loss"  # what the kept weights are the best by, on the validation part

    def __post_init__(self) -> None:
        self._check_names()
        self._check_numbers()
        self._check_start()
        self._check_samples()
        self._check_features()

    def _check_names(self) -> None:
        for name, known in CHOICES.items():
            value = getattr(self, name)
            # None is a default that depends on something else.
            if value is not None:
                _one_of(_where(name), value, known)

    def _check_numbers(self) -> None:
        for name in ("epochs", "batch_size", "plateau_patience", "stop_patience", "width"):
            _at_least(_where(name), getattr(self, name), 1)
        _at_least("unfreeze", self.unfreeze, 0)
        # Also false for NaN, which every comparison is.
        if not 0 < self.learning_rate < float("inf"):
            reason = f"{self.learning_rate} is not a learning rate"
            raise ConfigError.of("--learning-rate", "bad-value", reason, "give a number above 0")
        highest = {
            "momentum": 1.0,
            "weight_decay": float("inf"),
            "plateau_threshold": 1.0,
            "plateau_factor": 1.0,
        }
        for name, end in highest.items():
            if not 0 <= getattr(self, name) < end:
                remedy = f"give a number from 0 to below {end}"
                raise ConfigError.of(name, "bad-value", f"it is {getattr(self, name)}", remedy)

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

    def _check_samples(self) -> None:
        if self.window and self.frames == "selected":
            reason = "selected pictures are no neighbours, so that windows cannot be made of them"
            raise ConfigError.of("frames", "bad-value", reason, "give `frames: all`, or no `window`")
        for item in self.augmentation:
            if len(item) != 1:
                reason = f"{dict(item)} does not name one layer"
                remedy = "write `- NAME: {ARGUMENT: VALUE}` for each"
                raise ConfigError.of("augmentation", "bad-value", reason, remedy)

    def _check_features(self) -> None:
        # Stored features come from a backbone that is frozen and saw each volume once, unrotated.
        conflicts = {
            f"--strategy {self.strategy}": STRATEGIES[self.strategy].rotations,
            "--no-freeze": self.freeze_backbone is False,
            "--remat": self.remat,
            "augmentation": bool(self.augmentation),
        }
        for option, given in conflicts.items():
            if self.from_features and given:
                reason = "stored features come from a frozen backbone and from volumes without augmentation"
                remedy = f"leave out `{option}` or `--from-features`"
                raise ConfigError.of(option, "not-from-features", reason, remedy)

    @property
    def weighs_classes(self) -> bool:
        """Whether rare classes weigh more in the loss."""
        by_strategy = STRATEGIES[self.strategy].class_weights
        return by_strategy if self.class_weights is None else self.class_weights


def _where(name: str) -> str:
    """How an error names a setting: as the option that it is, or by its key in a file."""
    known = {setting.name for setting in options()}
    return f"--{name.replace('_', '-')}" if name in known else name


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        reason = f"there is no {value!r}"
        raise ConfigError.of(option, "unknown-name", reason, f"give one of: {', '.join(known)}")


def _at_least(option: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise ConfigError.of(option, "bad-value", f"{value} is less than {least}", f"give {least} or more")


def options(*names: str) -> list[Field[Any]]:
    """The settings that are options of the command line: these, or all of them."""
    known = [setting for setting in fields(Settings) if "help" in setting.metadata]
    return [setting for setting in known if not names or setting.name in names]


def settings_for(recipe: Mapping[str, Any], **given: Any) -> Settings:
    """The settings that the user gives, over the defaults that fit the recipe of a store."""
    # What the user gives wins over the preset, the preset over the usual defaults.
    return Settings(**{**preset_2021.settings(recipe), **given})
