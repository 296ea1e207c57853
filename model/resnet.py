"""Residual networks in the form that PyTorch's torchvision has: 50, 101 and 152 layers.

K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, Table 1 and Fig. 5 (right).
Two things differ from the networks of ``keras.applications``: a block halves the picture in its 3 x 3
convolution, not in its first 1 x 1 one, and no convolution has a bias. Layers are named as Keras names
them. Written in Keras alone.

Input: float ``(N, height, width, channels)``. Output: features ``(N, 2048)``.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
EPSILON = 1e-5


def resnet(blocks: Sequence[int], shape: tuple[int, int, int], *, name: str) -> keras.Model:
    """Build the network for pictures of ``shape`` (height, width, channels), up to the mean features.

    ``blocks`` are the residual blocks of each of the four stages.
    """
    picture = keras.Input(shape)
    maps = _convolved(picture, 64, size=7, stride=2, name="conv1")  # (N, h/2, w/2, 64)
    maps = layers.Activation("relu", name="conv1_relu")(maps)
    maps = layers.ZeroPadding2D(1, name="pool1_pad")(maps)
    maps = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(maps)
    for stage, count in enumerate(blocks, start=2):
        for number in range(1, count + 1):
            stride = 2 if stage > 2 and number == 1 else 1
            maps = _block(
                maps, 32 * 2 ** (stage - 1), stride, first=number == 1, name=f"conv{stage}_block{number}"
            )
    return keras.Model(picture, layers.GlobalAveragePooling2D(name="avg_pool")(maps), name=name)


def _block(maps: Any, filters: int, stride: int, *, first: bool, name: str) -> Any:
    """A bottleneck: 1 x 1, 3 x 3 and 1 x 1 convolutions around which the input is added."""
    around = _convolved(maps, 4 * filters, size=1, stride=stride, name=f"{name}_0") if first else maps
    for number, size, width, step in ((1, 1, filters, 1), (2, 3, filters, stride), (3, 1, 4 * filters, 1)):
        maps = _convolved(maps, width, size=size, stride=step, name=f"{name}_{number}")
        if number < 3:
            maps = layers.Activation("relu", name=f"{name}_{number}_relu")(maps)
    return layers.Activation("relu", name=f"{name}_out")(layers.Add(name=f"{name}_add")([around, maps]))


def _convolved(maps: Any, filters: int, *, size: int, stride: int, name: str) -> Any:
    """A convolution without bias, and a batch normalisation."""
    # "same" would pad a halving convolution at the far side alone; PyTorch pads both sides.
    maps = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(maps) if size > 1 else maps
    maps = layers.Conv2D(filters, size, strides=stride, use_bias=False, name=f"{name}_conv")(maps)
    return layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_bn")(maps)
