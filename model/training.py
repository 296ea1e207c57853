"""Train a network on a store: Keras' ``fit``, one call per epoch, each over that epoch's own stream.

Section 3.2 of the paper: SGD, categorical cross-entropy, the learning rate divided by ten where the
validation loss stagnates, early stopping, the best weights kept.

One ``fit`` per epoch makes the order of the samples a function of (seed, epoch), and the rest of an
interrupted epoch simply a shorter stream: a resumed training takes the same path to the same weights.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from model.architectures import check_fits, needs_statistics
from model.checkpoint import Checkpoint
from model.devices import batch_sizes, choose_devices, devices_text, shared
from model.features import open_features
from model.loading import starting_weights
from model.optimizers import LOSS
from model.run_folder import (
    CONFIG,
    Config,
    check_new,
    create_run,
    describe,
    read_config,
    versions,
    write_config,
)
from model.sampling import positions
from model.settings import Settings
from model.sidecar import file_sha256
from model.stream import Samples, batches, batches_of, bind, chosen_samples, integrity_errors, timed
from model.train_statistics import train_statistics
from model.trainer import make_trainer, precision, starting_network
from model.windows import sample_shape
from pipeline.errors import ConfigError, IntegrityError
from pipeline.split import Split, check_split, read_split
from pipeline.store import Store, open_store

Say = Callable[[str], None]
# Called with the name of an epoch and its number of steps; what it gives is told the bytes of each step.
Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
# A class may be too small for a sample in each split; that is known since the split was made.
HARMLESS = ("class-missing",)
LEAKS = ("group-leak", "content-leak")


def no_bar(name: str, steps: int) -> AbstractContextManager[Callable[[int], None]]:
    """Show no progress within an epoch."""
    return nullcontext(lambda nbytes: None)


def train(
    store: str | Path,
    split_file: str | Path,
    run: str | Path,
    settings: Settings,
    *,
    resume: bool = False,
    leaks_ok: bool = False,
    say: Say = lambda line: None,
    bar: Bar = no_bar,
) -> Path:
    """Train on the splits "train" and "val" of a split file; return the folder of the run.

    ``say`` gets a line at the start and one per epoch. With ``resume`` a run continues at its last
    checkpoint. ``leaks_ok`` turns samples of one group or content in several splits into warnings.

    Raises ConfigError before any work if the run, the settings or the split cannot be used,
    IntegrityError if store, split, weights or checkpoint are damaged or do not belong together.
    """
    job = _plan(store, split_file, Path(run), settings, resume=resume, say=say)
    # Before the network is built: that takes seconds, and with ImageNet weights a download.
    for warning in _check_leaks(job.split, job.volumes, split_file, leaks_ok=leaks_ok):
        say(warning)
    job = _with_statistics(job, say)
    with precision(settings), _devices(job).scope():
        net = starting_network(settings, job.config.data, job.train.store)
        trainer = make_trainer(net, settings)
    # Only now, so that after a refusal the same command can be run again.
    (write_config if resume else create_run)(job.folder, job.config)
    checkpoint = Checkpoint(job.folder, settings, net, trainer)
    say(_start_text(job, net, trainer))
    if checkpoint.resume():
        progress = checkpoint.progress
        say(f"resuming at epoch {progress.epoch + 1}, batch {progress.step + 1}")
    while not checkpoint.finished:
        _fit_epoch(job, trainer, checkpoint, bar)
        say(_epoch_text(checkpoint.progress.history[-1], settings.epochs))
    return job.folder


# --- before any work ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """A training that nothing stands in the way of: the folder may be written, all samples are there.

    ``train`` and ``val`` read ``volumes``, or the features made of them.
    """

    folder: Path
    config: Config
    volumes: Store
    split: Split
    train: Samples
    val: Samples

    @property
    def settings(self) -> Settings:
        return self.config.settings

    def positions(self, epoch: int) -> NDArray[np.int64]:
        """Which of the training samples an epoch sees, in its order."""
        return positions(self.settings, self.train.ids, self.train.labels, epoch=epoch)


def _plan(
    store: str | Path, split_file: str | Path, folder: Path, settings: Settings, *, resume: bool, say: Say
) -> _Job:
    opened, split = open_store(store), read_split(Path(split_file))
    samples = {name: bind(opened, split, name, where=str(split_file)) for name in ("train", "val")}
    for name, listed in samples.items():
        if not listed.ids:
            reason = f"its split {name!r} is empty"
            raise ConfigError.of(split_file, "empty-split", reason, "split with other fractions")
    data = describe(opened, Path(split_file))
    check_fits(settings, sample_shape(data.shape, data.recipe, settings.window))
    samples = {name: chosen_samples(listed, settings, say=say) for name, listed in samples.items()}
    _check_classes(samples["train"], settings, split_file, say)
    if settings.from_features:
        features = open_features(opened)
        samples = {name: replace(listed, store=features) for name, listed in samples.items()}
        data = replace(data, features_digest=features.digest)
    start = starting_weights(settings)
    # The hash of the start, not its path: a file of the same name may hold other weights.
    config = Config(settings, data, versions(), file_sha256(start) if start else None)
    if resume:
        _check_same(folder, config)
    else:
        check_new(folder)
    return _Job(folder, config, opened, split, samples["train"], samples["val"])


def _check_classes(train: Samples, settings: Settings, where: str | Path, say: Say) -> None:
    """Refuse to draw from classes without a sample; without a sampler, such a class is only told."""
    found, classes = set(train.labels), train.store.header.classes
    lacking = [name for index, name in enumerate(classes) if index not in found]
    if not lacking:
        return
    reason = f"its split 'train' has no sample of {', '.join(lacking)}"
    if settings.sampler != "shuffled":
        remedy = f"leave that out of `classes`, split again, or leave `sampler: {settings.sampler}` out"
        raise ConfigError.of(where, "class-missing", reason, remedy)
    say(f"warning: {where}: {reason}, which is not learned")


def _with_statistics(job: _Job, say: Say) -> _Job:
    """The same training, with the mean and deviation that its network standardises by, if it does."""
    if not needs_statistics(job.settings):
        return job
    data, frames = job.config.data, job.settings.frames
    found = train_statistics(job.train, Path(data.split), data.split_digest, frames=frames, say=say)
    return replace(job, config=replace(job.config, data=replace(data, statistics=found)))


def _check_same(folder: Path, config: Config) -> None:
    """Check that a run may continue with this configuration; only the number of epochs may change."""
    old = read_config(folder)
    before, now = (
        (each.data.store_digest, each.data.split_digest, each.data.features_digest, each.init_sha256)
        for each in (old, config)
    )
    if before != now:
        reason = "the store, the split, the features or the weights it started from have changed since"
        raise IntegrityError.of(folder, "other-data", reason, "train in another folder")
    # More epochs may be added to a run; anything else would be another training.
    if replace(old.settings, epochs=1) != replace(config.settings, epochs=1):
        reason = f"it was started with other settings, see {CONFIG}"
        raise ConfigError.of(
            folder, "other-settings", reason, "give the same settings, or another `--run DIR`"
        )


def _check_leaks(split: Split, volumes: Store, where: str | Path, *, leaks_ok: bool) -> list[str]:
    """Refuse what would make the scores meaningless, as ``viptt split --check`` does; return warnings."""
    accepted = HARMLESS + (LEAKS if leaks_ok else ())
    found = check_split(split, volumes, where=where)
    refused = [problem for problem in found if problem.code not in accepted]
    if refused:
        raise IntegrityError(*refused)
    return [f"warning: {problem}" for problem in found]


def _devices(job: _Job) -> tf.distribute.Strategy:
    # Every device needs a sample of each batch.
    return choose_devices(min(job.settings.batch_size, len(job.positions(0)), len(job.val.ids)))


# --- an epoch -----------------------------------------------------------------------------------


def _fit_epoch(job: _Job, trainer: keras.Model, checkpoint: Checkpoint, bar: Bar) -> None:
    progress, strategy = checkpoint.progress, trainer.distribute_strategy
    seen = job.positions(progress.epoch)
    # Of a resumed epoch, the batches that are still to come.
    sizes = _step_sizes(len(seen), job, strategy)[progress.step :]
    val_sizes = _step_sizes(len(job.val.ids), job, strategy)
    data, checkpoint.waited = timed(_training_batches(job, seen, skip=progress.step))
    val = batches(job.val, batch_size=job.settings.batch_size)
    with bar(f"epoch {progress.epoch + 1}", len(sizes)) as report, integrity_errors():
        trainer.fit(
            shared(data, sizes, strategy),
            steps_per_epoch=len(sizes),
            validation_data=shared(val, val_sizes, strategy),
            validation_steps=len(val_sizes),
            initial_epoch=progress.epoch,
            epochs=progress.epoch + 1,
            callbacks=[*checkpoint.schedule, checkpoint, _reporting(job, sizes, report)],
            shuffle=False,  # the stream has its order
            verbose=0,
        )


def _step_sizes(samples: int, job: _Job, strategy: tf.distribute.Strategy) -> list[int]:
    """Samples in each step of an epoch over so many samples."""
    return batch_sizes(samples, job.settings.batch_size, devices=strategy.num_replicas_in_sync)


def _training_batches(job: _Job, seen: NDArray[np.int64], *, skip: int) -> tf.data.Dataset:
    settings = job.settings
    data = batches_of(job.train, seen, batch_size=settings.batch_size, skip=skip)
    if settings.weighs_classes:
        data = _weighted(data, class_weights(job.train.labels, len(job.config.data.classes)))
    return data


def _reporting(job: _Job, sizes: Sequence[int], report: Callable[[int], None]) -> keras.callbacks.Callback:
    window = job.settings.window
    nbytes = job.train.store.header.volume_bytes * (window.length if window else 1)
    return keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: report(sizes[batch] * nbytes)
    )


def class_weights(labels: Sequence[int], classes: int) -> NDArray[np.float32]:
    """Weight n / (k * n_c) of each class c, so that all k classes weigh the same in the loss.

    ``labels`` are those of the training samples alone. A class that does not occur there has weight
    0, and is not counted.
    """
    # scikit-learn's "balanced", which is what the notebooks used.
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0).astype(np.float32)


def _weighted(data: tf.data.Dataset, weights: NDArray[np.float32]) -> tf.data.Dataset:
    """Add the weight of each sample. Keras' own ``class_weight`` would prefetch after the time is taken."""
    return data.map(lambda volumes, labels: (volumes, labels, tf.linalg.matvec(labels, weights)))


# --- what is said -------------------------------------------------------------------------------


def _start_text(job: _Job, net: keras.Model, trainer: keras.Model) -> str:
    strategy = trainer.distribute_strategy
    trainable = sum(int(np.prod(variable.shape)) for variable in trainer.trainable_variables)
    return (
        f"training on {devices_text(strategy)}: {len(job.train.ids)} training and {len(job.val.ids)} "
        f"validation samples, {net.count_params():,} parameters, {trainable:,} of them trainable, "
        f"{len(_step_sizes(len(job.positions(0)), job, strategy))} steps per epoch"
    )


def _epoch_text(row: Mapping[str, float], epochs: int) -> str:
    losses = ", ".join(f"{name} {row[name]:.4f}" for name in ("loss", "accuracy", LOSS, "val_accuracy"))
    rest = f"learning rate {row['learning_rate']:.0e}, {row['seconds']:.1f} s"
    return f"epoch {row['epoch']}/{epochs}: {losses}, {rest}, waited for input {row['input_wait']:.1%}"
