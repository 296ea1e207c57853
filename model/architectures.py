"""The networks that ``--model`` can name: one record each, in one dict.

A new family is a module with a function that builds a Keras model, and an entry in ``NETWORKS``.
Training, evaluation and prediction need nothing else: volumes (B, depth, height, width, 1) go in,
class probabilities (B, classes) come out, and the last layer is the one that depends on the classes.
"""

from dataclasses import dataclass
from typing import Protocol

import keras

from model.network import small_net, viptt_net
from pipeline.errors import ConfigError


class Build(Protocol):
    """Builds a network for volumes of a shape (depth, height, width, channels)."""

    def __call__(
        self, shape: tuple[int, int, int, int], classes: int, *, weights: str | None = ...
    ) -> keras.Model:
        """``weights`` are "imagenet", "none" or a file; left out, those that suit the network."""


@dataclass(frozen=True)
class Architecture:
    """``build`` makes the network. ``backbone`` says that it has the layers of ``model.network``: a 2D
    backbone that sees slice after slice, which can be frozen, cached, rematerialized and explained."""

    build: Build
    backbone: bool = False


# Names go into config.json: renaming one makes the runs of that network unreadable.
NETWORKS: dict[str, Architecture] = {
    "viptt-net": Architecture(viptt_net, backbone=True),
    "viptt-net-small": Architecture(small_net, backbone=True),
}


def architecture(name: str) -> Architecture:
    """The record of a network; raises ConfigError for a name that is not known."""
    if name not in NETWORKS:
        remedy = f"give one of: {', '.join(NETWORKS)}"
        raise ConfigError.of("--model", "unknown-name", f"there is no {name!r}", remedy)
    return NETWORKS[name]


def require_backbone(name: str, *, option: str) -> None:
    """Raise ConfigError if an option needs a backbone that this network does not have."""
    if not architecture(name).backbone:
        # Name one that can do it; which one is a matter of size, so the first will do.
        able = [other for other, known in NETWORKS.items() if known.backbone]
        reason = f"{name!r} has no backbone that sees slice after slice"
        remedy = f"leave it out, or use `--model {able[0]}`"
        raise ConfigError.of(option, "no-backbone", reason, remedy)
