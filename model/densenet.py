"""DenseNet-161, which ``keras.applications`` does not have: growth rate 48, 96 filters in the stem.

G. Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, Table 1, with the sizes of
PyTorch's torchvision (the authors' own DenseNet-161). Layers are named as Keras names those of the
other dense networks. Written in Keras alone.

Input: float ``(N, height, width, channels)``. Output: features ``(N, 2208)``.
"""

from typing import Any

import keras
from keras import layers

GROWTH, STEM, BLOCKS = 48, 96, (6, 12, 36, 24)
EPSILON = 1e-5


def densenet161(shape: tuple[int, int, int], *, name: str) -> keras.Model:
    """Build the network for pictures of ``shape`` (height, width, channels), up to the mean features."""
    picture = keras.Input(shape)
    maps = layers.ZeroPadding2D(3, name="conv1_pad")(picture)
    maps = layers.Conv2D(STEM, 7, strides=2, use_bias=False, name="conv1_conv")(maps)
    maps = _activated(maps, "conv1")
    maps = layers.ZeroPadding2D(1, name="pool1_pad")(maps)
    maps = layers.MaxPooling2D(3, strides=2, name="pool1")(maps)
    for stage, count in enumerate(BLOCKS, start=2):
        maps = maps if stage == 2 else _transition(maps, name=f"pool{stage - 1}")
        for number in range(1, count + 1):
            maps = _dense_layer(maps, name=f"conv{stage}_block{number}")
    maps = layers.GlobalAveragePooling2D(name="avg_pool")(_activated(maps, ""))
    return keras.Model(picture, maps, name=name)


def _dense_layer(maps: Any, *, name: str) -> Any:
    """Add ``GROWTH`` feature maps to those that are there."""
    found = layers.Conv2D(4 * GROWTH, 1, use_bias=False, name=f"{name}_1_conv")(_activated(maps, f"{name}_0"))
    found = _activated(found, f"{name}_1")
    found = layers.Conv2D(GROWTH, 3, padding="same", use_bias=False, name=f"{name}_2_conv")(found)
    return layers.Concatenate(name=f"{name}_concat")([maps, found])


def _transition(maps: Any, *, name: str) -> Any:
    """Halve the number of maps, their height and their width."""
    halved = layers.Conv2D(maps.shape[-1] // 2, 1, use_bias=False, name=f"{name}_conv")
    return layers.AveragePooling2D(2, name=f"{name}_pool")(halved(_activated(maps, name)))


def _activated(maps: Any, name: str) -> Any:
    """A batch normalisation and its rectifier."""
    start = f"{name}_" if name else ""
    maps = layers.BatchNormalization(epsilon=EPSILON, name=f"{start}bn")(maps)
    return layers.Activation("relu", name=f"{start}relu")(maps)
