"""A store and a split file to batches for Keras, each volume checked before it reaches the model.

A batch is ``(volumes, labels)``: float32 ``(B, depth, height, width, 1)`` in [0, 1] (clips of the
recipe preset ``viptt-2021``: 0 to 255, see ``input_maximum``) and one-hot float32 ``(B, classes)``. The
last batch may be short; no sample is dropped, repeated or filled in. Over a store of pictures, a batch
is float32 ``(B, height, width, 1)``, or of windows ``(B, length, height, width, 1)``; over a store of
features, ``(B, depth, feature)``, depth the length of a window if there is one. The labels are the same.

Batches are read by a few threads, a few of them ahead, so that memory stays at a handful of batches
whatever the size of the store. A damaged or missing volume stops the iteration: TensorFlow carries
the IntegrityError as text, and ``integrity_errors`` turns it back.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from model import preset_2021
from model.sampling import order
from model.settings import Settings, Window
from model.windows import sample_rows, sample_shape, stacks_without_windows
from pipeline.errors import IntegrityError, integrity_error_in, some
from pipeline.split import Split, read_split
from pipeline.store import FEATURES, Json, Store, open_store

# Two threads read while the model computes; more only compete with it for the processor.
READERS = 2
BATCHES_AHEAD = 2
SPLIT_AGAIN = "run `viptt split` for this store"


@dataclass(frozen=True)
class Samples:
    """The samples of one split, such as "train", in the split file's order, and the store that holds them.

    ``rows[i]`` is the row of ``ids[i]`` in the store's table. With a ``window``, a sample is a run of
    neighbouring rows, and the id and the row are those of its first picture.
    """

    store: Store
    name: str
    ids: tuple[str, ...]
    rows: tuple[int, ...]
    window: Window | None = None

    @property
    def labelled_rows(self) -> tuple[int, ...]:
        """The row that each sample has its label from: of a window, that of its last picture."""
        # Where all pictures of a window have one label, it is that of any of them.
        last = self.window.length - 1 if self.window else 0
        return tuple(row + last for row in self.rows)

    @property
    def labels(self) -> tuple[int, ...]:
        """Index into the store's classes, one per sample."""
        return tuple(self.store.rows[row].label for row in self.labelled_rows)


def stream(
    store: str | Path,
    split_file: str | Path,
    name: str,
    *,
    batch_size: int,
    seed: int | None = None,
    epoch: int = 0,
    epochs: int = 1,
    settings: Settings | None = None,
) -> tf.data.Dataset:
    """One epoch, or ``epochs`` one after the other, over the split ``name`` ("train", "val") of a split file.

    Without a seed the order is that of the split file. With one it is a function of
    (seed, epoch, id) alone, the same on every machine and version. ``settings`` say which pictures of
    a store of pictures are samples, and whether windows of them are. Several epochs, each in an order of
    its own and with its own short last batch, are for a plain ``fit`` with
    ``steps_per_epoch``.

    Raises ValueError for less than one epoch, IntegrityError if the split file was made for another
    store, has no such split, or lists ids that the store does not hold, ConfigError as
    ``chosen_samples``. While iterating, a volume that is not the stored one raises
    ``tf.errors.UnknownError`` with the IntegrityError as its text.

    Examples:
        >>> data = stream("cache/ct.zarr", "splits/ct.json", "train", batch_size=2, seed=0, epochs=3)
        >>> steps_per_epoch = len(data) // 3  # network.fit(data, epochs=3, steps_per_epoch=steps_per_epoch)
        >>> [volumes.shape[1:] for volumes, labels in data.take(1)]
        [TensorShape([5, 16, 16, 1])]
    """
    samples = chosen_samples(open_samples(store, split_file, name), settings or Settings())
    each = [
        batches(samples, batch_size=batch_size, seed=seed, epoch=number)
        for number in range(epoch, epoch + epochs)
    ]
    if not each:
        raise ValueError(f"there is at least one epoch, not {epochs}")
    return reduce(tf.data.Dataset.concatenate, each)


def input_maximum(recipe: Json) -> float:
    """What a network gets for the brightest value that a volume of this recipe can have."""
    return preset_2021.input_maximum(recipe) or 1.0


def scaled(stored: Any, recipe: Json) -> Any:
    """Stored values, an array or a tensor of float32, as a network gets them."""
    given, full = input_maximum(recipe), 255.0 if recipe["dtype"] == "uint8" else 1.0
    return stored if given == full else stored * given / full


# --- which samples ------------------------------------------------------------------------------


def open_samples(store: str | Path, split_file: str | Path, name: str) -> Samples:
    """Open a store and a split file, and find the rows of one split in the store.

    Raises IntegrityError as ``stream`` does.
    """
    opened, split = open_store(store), read_split(Path(split_file))
    return bind(opened, split, name, where=str(split_file))


def bind(store: Store, split: Split, name: str, *, where: str) -> Samples:
    """Find the samples of one split in the store; ``where`` names the split file in errors."""
    # Rows are found by id, so a split of another store would fit without an error, and leak.
    if split.store_digest != store.digest:
        reason = f"it was made for store {split.store_digest[:19]}…, {store.path} is {store.digest[:19]}…"
        raise IntegrityError.of(where, "other-store", reason, SPLIT_AGAIN)
    if name not in split.parts:
        reason = f"it has no split {name!r}, only {', '.join(split.parts)}"
        raise IntegrityError.of(where, "unknown-split", reason, "name one of these")
    known = {row.id: index for index, row in enumerate(store.rows)}
    ids = split.parts[name]
    unknown = [sample for sample in ids if sample not in known]
    if unknown:
        reason = f"{len(unknown)} ids of split {name!r} are not in {store.path}: {', '.join(unknown[:5])}"
        raise IntegrityError.of(where, "unknown-id", reason, SPLIT_AGAIN)
    return Samples(store, name, ids, tuple(known[sample] for sample in ids))


def chosen_samples(
    samples: Samples, settings: Settings, *, say: Callable[[str], None] = lambda line: None
) -> Samples:
    """Of pictures, those or the windows of those that the settings ask for; all volumes of other stores.

    ``say`` gets a line on stacks that have no window. Raises ConfigError if none is left, or if the store
    has no pictures to make windows of.
    """
    header = samples.store.header
    sample_shape((*header.shape, 1), header.recipe, settings.window)  # refuses windows of volumes
    rows = sample_rows(samples.store, samples.rows, settings, where=f"split {samples.name!r}")
    if rows == samples.rows and settings.window is None:
        return samples
    if settings.window:
        without = stacks_without_windows(samples.store.rows, samples.rows, rows)
        if without:
            length, where = settings.window.length, f"split {samples.name!r}"
            say(f"warning: {where}: no window of {length} pictures in {some(without, 'stack')}")
    ids = tuple(samples.store.rows[row].id for row in rows)
    return Samples(samples.store, samples.name, ids, rows, settings.window)


# --- reading ------------------------------------------------------------------------------------


def batches(
    samples: Samples, *, batch_size: int, seed: int | None = None, epoch: int = 0, skip: int = 0
) -> tf.data.Dataset:
    """One epoch over samples; the first ``skip`` batches are left out without being read."""
    return batches_of(samples, order(samples.ids, seed=seed, epoch=epoch), batch_size=batch_size, skip=skip)


def batches_of(
    samples: Samples, positions: NDArray[np.int64], *, batch_size: int, skip: int = 0
) -> tf.data.Dataset:
    """The samples at these positions, in this order; the first ``skip`` batches are not read."""
    positions = positions[skip * batch_size :]
    rows = np.array(samples.rows, dtype=np.int64)[positions]
    labels = np.array(samples.labels, dtype=np.int64)[positions]
    dataset = tf.data.Dataset.from_tensor_slices((rows, labels)).batch(batch_size)
    return dataset.map(_reading(samples), num_parallel_calls=READERS).prefetch(BATCHES_AHEAD)


def _reading(samples: Samples) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    store, header, window = samples.store, samples.store.header, samples.window

    def read(rows: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if window:
            # (B, length), then in one row after the other
            rows = tf.reshape(rows[:, tf.newaxis] + tf.range(window.length, dtype=rows.dtype), [-1])
        # TensorFlow in deterministic mode would call a stateful function from one thread only; here
        # the result depends on the rows alone.
        volumes = tf.numpy_function(store.read_batch, [rows], tf.as_dtype(header.dtype), stateful=False)
        values = tf.cast(tf.ensure_shape(volumes, (None, *header.shape)), tf.float32)
        values = scaled(values, header.recipe)
        if header.array != FEATURES:
            shape = sample_shape((*header.shape, 1), header.recipe, window)
            values = tf.reshape(values, (-1, *shape))
        elif window:
            values = tf.reshape(values, (-1, window.length, *header.shape[1:]))
        return values, tf.one_hot(labels, len(header.classes))

    return read


@contextmanager
def integrity_errors() -> Iterator[None]:
    """Raise the IntegrityError that TensorFlow carries as the text of an error of its own."""
    try:
        yield
    except tf.errors.OpError as error:
        # TensorFlow keeps only the text of an exception that Python code raises inside a graph.
        found = integrity_error_in(str(error))
        if found is None:
            raise
        raise found from None


# --- waiting ------------------------------------------------------------------------------------


def timed(dataset: tf.data.Dataset) -> tuple[tf.data.Dataset, Callable[[], float]]:
    """Measure how long the consumer waits for ``dataset``: the same elements, and the seconds so far.

    Each element is pulled between two readings of the clock, in the consumer's own call: ``zip``
    reads the clock first, and nothing may be prefetched behind it. The clock is Python's, since
    TensorFlow has none where it is told to be deterministic.
    """
    waited = 0.0

    def stop(begun: float) -> float:
        nonlocal waited
        waited += time.perf_counter() - begun
        return waited

    def give(begun: tf.Tensor, element: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        with tf.control_dependencies([tf.numpy_function(stop, [begun], tf.float64)]):
            return tuple(tf.identity(tensor) for tensor in element)

    ticks = tf.data.Dataset.counter().map(lambda _: tf.numpy_function(time.perf_counter, [], tf.float64))
    options = tf.data.Options()
    # Prefetched behind the clock, elements would be waited for by a background thread.
    options.experimental_optimization.inject_prefetch = False
    options.experimental_optimization.map_parallelization = False
    return tf.data.Dataset.zip((ticks, dataset)).map(give).with_options(options), lambda: waited
