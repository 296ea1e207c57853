"""Sharing batches between the devices of a machine so that every sample is used exactly once."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def choose_devices(limit: int) -> tf.distribute.Strategy:
    """All GPUs, but not more than ``limit``, which is the smallest batch; else the one device there is."""
    names = [device.name for device in tf.config.list_logical_devices("GPU")][:limit]
    return tf.distribute.MirroredStrategy(names) if len(names) > 1 else tf.distribute.get_strategy()


def devices_text(strategy: tf.distribute.Strategy) -> str:
    """What a training runs on: `CPU`, `1 GPU`, `2 GPUs`."""
    count = strategy.num_replicas_in_sync
    if count > 1:
        return f"{count} GPUs"
    return "1 GPU" if tf.config.list_logical_devices("GPU") else "CPU"


def batch_sizes(samples: int, size: int, *, devices: int) -> list[int]:
    """Samples in each batch of an epoch, at least one for each device.

    A rest at the end that is too small for that joins the batch before it. ``devices`` are not more
    than ``samples`` or ``size``.
    """
    # Full batches such that at least `devices` samples are left for the last one.
    full = -(-(samples - devices + 1) // size) - 1
    return [*[size] * full, samples - full * size]


def shared(data: tf.data.Dataset, sizes: Sequence[int], strategy: tf.distribute.Strategy) -> Any:
    """Cut batches of these sizes into a share for each device; TensorFlow alone leaves some without any."""
    devices = strategy.num_replicas_in_sync
    if devices == 1:
        return data
    # The first devices take the rest of the division, one sample each.
    shares = [size // devices + (device < size % devices) for size in sizes for device in range(devices)]
    return strategy.distribute_datasets_from_function(lambda context: data.rebatch(shares))
