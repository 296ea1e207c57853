"""Train ViPTT-Net on a store: Keras' ``fit``, one call per epoch, each over that epoch's own stream.

Section 3.2 of the paper: SGD, categorical cross-entropy, the learning rate divided by ten where the
validation loss stagnates, early stopping, the best weights kept.

An epoch per ``fit`` makes the order of the samples a function of (seed, epoch) and a resumed epoch
merely a shorter stream. What Keras' callbacks know would be lost between two fits; ``_Keeper`` carries
it over, and writes it down with the weights, so that going on after a kill is the same path.
"""

import csv
import io
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from model import checkpoint
from model.augment import RandomRotation
from model.checkpoint import Progress
from model.events import Events
from model.features import check_origin, open_features
from model.network import classifier, fix_adapter, freeze_backbone, rematerialized
from model.run import (
    CONFIG,
    EVENTS,
    HISTORY,
    OPTIMIZERS,
    STATE,
    STRATEGIES,
    WEIGHTS,
    Config,
    Settings,
    build_network,
    check_new,
    create_run,
    describe,
    read_config,
    versions,
    write_config,
)
from model.stream import Part, batches, bind, integrity_errors, timed
from model.weights import file_sha256, save_weights
from pipeline.errors import ConfigError, IntegrityError, VipttError
from pipeline.split import read_split
from pipeline.store import open_store, write_durably

Say = Callable[[str], None]
LOSS = "val_loss"


def train(
    store: str | Path,
    split_file: str | Path,
    run: str | Path,
    settings: Settings,
    *,
    resume: bool = False,
    say: Say = lambda line: None,
) -> Path:
    """Train on the parts "train" and "val" of a split; return the folder of the run.

    ``say`` gets a line per epoch. With ``resume`` a run goes on where its last checkpoint stands.

    Raises ConfigError before any work if the run, the settings or the split cannot be used,
    IntegrityError if store, split, weights or checkpoint are damaged or do not belong together.
    """
    job = _plan(store, split_file, Path(run), settings, resume=resume)
    with _precision(settings), _devices(job).scope():
        net = _network(job)
        trainer = _trainer(net, settings)
    (write_config if resume else create_run)(job.folder, job.config)
    keeper = _Keeper(job, net, trainer, say)
    while not keeper.finished:
        _fit_epoch(job, trainer, keeper)
    return job.folder


@dataclass(frozen=True)
class _Job:
    """A training that nothing stands against: the folder may be written, the parts are bound."""

    folder: Path
    config: Config
    train: Part
    val: Part

    @property
    def settings(self) -> Settings:
        return self.config.settings


def _plan(
    store: str | Path, split_file: str | Path, folder: Path, settings: Settings, *, resume: bool
) -> _Job:
    opened, split = open_store(store), read_split(Path(split_file))
    parts = {name: bind(opened, split, name, where=str(split_file)) for name in ("train", "val")}
    for name, part in parts.items():
        if not part.ids:
            reason = f"its part {name!r} is empty"
            raise ConfigError.of(split_file, "empty-part", reason, "split with other fractions")
    data = describe(opened, Path(split_file))
    if settings.from_features:
        features = open_features(opened)
        parts = {name: replace(part, store=features) for name, part in parts.items()}
        data = replace(data, features_digest=features.digest)
    start = settings.start
    init = file_sha256(start) if start else None
    config = Config(settings, data, versions(), init)
    if resume:
        _check_same(folder, config)
    else:
        check_new(folder)
    return _Job(folder, config, parts["train"], parts["val"])


def _check_same(folder: Path, config: Config) -> None:
    """Check that a run may go on with this configuration; only the number of epochs may change."""
    old = read_config(folder)
    before, now = (
        (each.data.store_digest, each.data.split_digest, each.data.features_digest, each.init_sha256)
        for each in (old, config)
    )
    if before != now:
        reason = "the store, the split, the features or the weights it started from have changed since"
        raise IntegrityError.of(folder, "other-data", reason, "train in another folder")
    if replace(old.settings, epochs=1) != replace(config.settings, epochs=1):
        reason = f"it was begun with other settings, see {CONFIG}"
        raise ConfigError.of(
            folder, "other-settings", reason, "give the same settings, or another `--run DIR`"
        )


# --- the model in training ----------------------------------------------------------------------


@contextmanager
def _precision(settings: Settings) -> Iterator[None]:
    """Seed everything and set Keras' precision while the network is built."""
    keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16" if settings.mixed_precision else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _devices(job: _Job) -> tf.distribute.Strategy:
    """Every GPU that gets a share of each batch; otherwise the one device there is."""
    useful = min(job.settings.batch_size, len(job.train.ids), len(job.val.ids))
    names = [device.name for device in tf.config.list_logical_devices("GPU")][:useful]
    return tf.distribute.MirroredStrategy(names) if len(names) > 1 else tf.distribute.get_strategy()


def _network(job: _Job) -> keras.Model:
    settings, data = job.settings, job.config.data
    net = build_network(settings, data.shape, len(data.classes))
    frozen = data.type == "video" if settings.freeze_backbone is None else settings.freeze_backbone
    if frozen:
        freeze_backbone(net)
    if settings.from_features:
        fix_adapter(net)
        check_origin(job.train.store, net, settings.model)
    return net


def _trainer(net: keras.Model, settings: Settings) -> keras.Model:
    """The network with what only training needs around it; the network itself stays uncompiled."""
    body = rematerialized(net) if settings.remat else net
    if settings.from_features:
        body = classifier(net)
    volume = keras.Input(body.input_shape[1:], name="volume")
    seen = volume
    if STRATEGIES[settings.strategy].rotations:
        _, _, height, width, _ = net.input_shape
        seen = RandomRotation(height, width, angles=settings.angles, seed=settings.seed)(volume)
    trainer = _Trainer(volume, body(seen), name="trainer")
    trainer.compile(
        optimizer=OPTIMIZERS[settings.optimizer](settings.learning_rate),
        loss="categorical_crossentropy",
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=settings.jit_compile,
    )
    trainer.optimizer.build(trainer.trainable_variables)
    # Keras makes a metric's variables when it first sees data; a checkpoint needs them before.
    nothing = tf.one_hot([0], net.output_shape[-1])
    trainer.compute_metrics(None, nothing, nothing)
    trainer.reset_metrics()
    return trainer


class _Trainer(keras.Model):  # type: ignore[misc]  # Keras has no types
    """A model that is built before it is trained."""

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        """On several devices Keras would read a batch to build by, and fail if its shares are uneven."""


def _variables(trainer: keras.Model) -> list[Any]:
    every = [*trainer.variables, *trainer.optimizer.variables, *trainer.metrics_variables]
    return list({id(variable): variable for variable in every}.values())


# --- an epoch -----------------------------------------------------------------------------------


def _fit_epoch(job: _Job, trainer: keras.Model, keeper: "_Keeper") -> None:
    settings, progress = job.settings, keeper.progress
    strategy = trainer.distribute_strategy
    sizes, val_sizes = (
        batch_sizes(len(part.ids), settings.batch_size, devices=strategy.num_replicas_in_sync)
        for part in (job.train, job.val)
    )
    sizes = sizes[progress.step :]
    data = batches(
        job.train,
        batch_size=settings.batch_size,
        seed=settings.seed,
        epoch=progress.epoch,
        skip=progress.step,
    )
    if STRATEGIES[settings.strategy].class_weights:
        data = _weighted(data, class_weights(job.train.labels, len(job.config.data.classes)))
    data, keeper.waited = timed(data)
    with integrity_errors():
        trainer.fit(
            _shared(data, sizes, strategy),
            steps_per_epoch=len(sizes),
            validation_data=_shared(batches(job.val, batch_size=settings.batch_size), val_sizes, strategy),
            validation_steps=len(val_sizes),
            initial_epoch=progress.epoch,
            epochs=progress.epoch + 1,
            callbacks=[*keeper.schedule, keeper],
            shuffle=False,  # the stream has its order
            verbose=0,
        )


def batch_sizes(samples: int, size: int, *, devices: int) -> list[int]:
    """Samples in each batch of an epoch, at least one for each device.

    What is left at the end joins the batch before it where that is too few. ``devices`` are not
    more than ``samples`` or ``size``.
    """
    full = -(-(samples - devices + 1) // size) - 1
    return [*[size] * full, samples - full * size]


def _shared(data: tf.data.Dataset, sizes: Sequence[int], strategy: tf.distribute.Strategy) -> Any:
    """Cut batches into a share for each device; left to itself, TensorFlow leaves some without any."""
    devices = strategy.num_replicas_in_sync
    if devices == 1:
        return data
    shares = [size // devices + (device < size % devices) for size in sizes for device in range(devices)]
    return strategy.distribute_datasets_from_function(lambda context: data.rebatch(shares))


def class_weights(labels: Sequence[int], classes: int) -> NDArray[np.float32]:
    """Weight n / (k * n_c) of each class c, so that all k classes weigh the same in the loss.

    ``labels`` are those of the train part alone. A class that does not occur there has weight 0,
    and is not counted.
    """
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0).astype(np.float32)


def _weighted(data: tf.data.Dataset, weights: NDArray[np.float32]) -> tf.data.Dataset:
    """Add the weight of each sample; done here since Keras would prefetch behind the clock."""
    return data.map(lambda volumes, labels: (volumes, labels, tf.linalg.matvec(labels, weights)))


class _Keeper(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Keeps the best weights, the history and where training stands, in memory and in the run."""

    def __init__(self, job: _Job, net: keras.Model, trainer: keras.Model, say: Say) -> None:
        super().__init__()
        settings = job.settings
        self.job, self.net, self.trainer, self.say = job, net, trainer, say
        self.schedule = [
            keras.callbacks.EarlyStopping(LOSS, mode="min", patience=settings.stop_patience),
            keras.callbacks.ReduceLROnPlateau(
                LOSS, mode="min", factor=0.1, patience=settings.plateau_patience
            ),
        ]
        self.waited: Callable[[], float] = lambda: 0.0
        self.metrics: list[Any] = []
        self.events = Events(job.folder / EVENTS)
        self.progress = Progress()
        if (job.folder / STATE).exists():
            self._go_on()

    @property
    def finished(self) -> bool:
        """True once every epoch is done or early stopping has spoken."""
        return self.progress.stopped or self.progress.epoch >= self.job.settings.epochs

    def _go_on(self) -> None:
        path = self.job.folder / STATE
        self.progress, values = checkpoint.load_state(path)
        checkpoint.restore(path, _variables(self.trainer), values)
        if self.progress.step:
            self.metrics = [variable.numpy() for variable in self.trainer.metrics_variables]
        self.say(f"going on at epoch {self.progress.epoch + 1}, batch {self.progress.step + 1}")

    def on_train_begin(self, logs: Any = None) -> None:
        """Give Keras' callbacks back what they knew: each ``fit`` begins by resetting them."""
        for callback in self.schedule:
            vars(callback).update(self.progress.callbacks.get(type(callback).__name__, {}))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Go on with the means of an epoch that was begun before."""
        for variable, value in zip(self.trainer.metrics_variables, self.metrics, strict=False):
            variable.assign(value)
        self.metrics = []
        self.begun = self.saved = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Write a checkpoint now and then; the one after the last batch is left to the epoch's end."""
        now = time.monotonic()
        self.trained = now - self.begun
        due = now - self.saved >= self.job.settings.checkpoint_s
        if due and batch + 1 < self.params["steps"]:
            self._save(replace(self.progress, step=self.progress.step + batch + 1))
            self.saved = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep the weights if they are the best so far, then note that the epoch is done."""
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}}
        row |= {"seconds": round(self.trained, 3), "input_wait": round(self.waited() / self.trained, 4)}
        _check_finite(self.job.folder, row)
        if self.schedule[0].best_epoch == epoch:
            save_weights(self.net, self.job.folder / WEIGHTS)
        history = (*self.progress.history, row)
        memory = {type(callback).__name__: _memory(callback) for callback in self.schedule}
        self.progress = Progress(epoch + 1, 0, self.trainer.stop_training, memory, history)
        self.events.add(row)
        self._save(self.progress)
        _write_history(self.job.folder / HISTORY, history)
        self.say(_line(row, self.job.settings.epochs))

    def _save(self, progress: Progress) -> None:
        checkpoint.save_state(self.job.folder / STATE, progress, _variables(self.trainer))


def _memory(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """What a Keras callback has to know of earlier epochs."""
    names = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")
    return {name: vars(callback)[name] for name in names if name in vars(callback)}


def _check_finite(folder: Path, row: Mapping[str, float]) -> None:
    for name in ("loss", LOSS):
        if not math.isfinite(row[name]):
            reason = f"{name} is {row[name]} in epoch {row['epoch']}"
            raise VipttError.of(folder, "diverged", reason, "train again with a smaller `--learning-rate`")


def _write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(history[0]))
    writer.writeheader()
    writer.writerows(history)
    write_durably(path, text.getvalue().encode())


def _line(row: Mapping[str, float], epochs: int) -> str:
    losses = ", ".join(f"{name} {row[name]:.4f}" for name in ("loss", "accuracy", LOSS, "val_accuracy"))
    rest = f"learning rate {row['learning_rate']:.0e}, {row['seconds']:.1f} s"
    return f"epoch {row['epoch']}/{epochs}: {losses}, {rest}, waited for input {row['input_wait']:.1%}"
