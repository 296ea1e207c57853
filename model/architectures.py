"""The networks that ``--model`` can name: one record each, in one dict.

A new family is a module with a function that builds a Keras model, and an entry in ``NETWORKS``.
Training, evaluation and prediction need nothing else: volumes or windows (B, depth, height, width, 1)
or pictures (B, height, width, 1) go in, class probabilities (B, classes) come out, and the last layer is
the one that depends on the classes.

Beside these names there are every network of ``keras.applications``, as a network for pictures, and
the user's own ``module:function``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras

from model.applications import NAMES, is_published, published_names
from model.backbones import backbone
from model.network import small_net, viptt_net
from model.own_network import is_own, own_network
from model.settings import Settings
from model.sononet import BLOCKS, freeze, sononet
from model.sononet_weights import PRESET
from model.weights import load_weights
from pipeline.errors import ConfigError
from pipeline.nearest import nearest

PICTURES, VOLUMES = 3, 4  # axes of a sample
# Settings that only some networks know. Given to another one, they are a mistake that nobody would see.
PARTICULAR = (
    "preset",
    "backbone",
    "temporal",
    "features",
    "width",
    "mid_channels",
    "unfreeze",
    "standardise",
)


# Called with the shape of a sample without the batch, the number of classes, ``weights`` ("imagenet",
# "none" or a file; left out, those that suit the network), and the settings that the network knows.
Build = Callable[..., keras.Model]


@dataclass(frozen=True)
class Architecture:
    """``build`` makes the network. ``backbone`` says that it has the layers of ``model.network``: a 2D
    backbone that sees slice after slice, which can be frozen, cached, rematerialized and explained.

    ``options`` are the settings that ``build`` takes by their names. ``axes`` are those of a sample,
    None where any will do. ``standardise`` are the ways it knows, its default first.
    """

    build: Build
    backbone: bool = False
    options: tuple[str, ...] = ()
    axes: int | None = VOLUMES
    standardise: tuple[str, ...] = ("none",)


def _sononet(
    kind: str,
    shape: tuple[int, ...],
    classes: int,
    *,
    weights: str | None = "none",
    preset: str | None = None,
    unfreeze: int | None = None,
    width: int = 32,
    **options: Any,
) -> keras.Model:
    """SonoNet as the settings name it; ``unfreeze`` counts the last blocks of convolutions."""
    if weights == "imagenet":
        raise ConfigError.of("--weights", "no-weights", "SonoNet was not trained on ImageNet", "give a FILE")
    if preset not in (None, PRESET):
        raise ConfigError.of(
            "preset", "unknown-name", f"SonoNet has no {preset!r}", f"give {PRESET}, or null"
        )
    net = sononet(kind, features=width, classes=classes, shape=shape, **options)
    if weights not in (None, "none"):
        load_weights(net, str(weights), preset=preset)
    if unfreeze is not None:
        if unfreeze > len(BLOCKS):
            remedy = f"give 0 to {len(BLOCKS)}, or none for all"
            raise ConfigError.of("unfreeze", "bad-value", f"{unfreeze} of its {len(BLOCKS)} blocks", remedy)
        freeze(net, len(BLOCKS) - unfreeze)
    return net


def _pictures(
    name: str, shape: Any, classes: int, *, weights: str | None = "imagenet", **options: Any
) -> keras.Model:
    return backbone(name, classes=classes, shape=shape, weights=weights, **options)


def _own(name: str, shape: Any, classes: int, *, weights: str | None = "none") -> keras.Model:
    if weights == "imagenet":
        reason = "viptt has no ImageNet weights for a network of yours"
        raise ConfigError.of("--weights", "no-weights", reason, "let its function load them, or give a FILE")
    net = own_network(name, tuple(shape), classes)
    if weights not in (None, "none"):
        load_weights(net, str(weights))
    return net


def _of_pictures(name: str) -> Architecture:
    options = ("preset", "unfreeze", "standardise")
    return Architecture(partial(_pictures, name), False, options, PICTURES, ("train", "none"))


def _of_ultrasound(kind: str, *, axes: int, options: tuple[str, ...] = ()) -> Architecture:
    common = ("preset", "unfreeze", "standardise", "width")
    return Architecture(partial(_sononet, kind), False, common + options, axes, ("none", "picture"))


# Names go into config.json: renaming one makes the runs of that network unreadable.
NETWORKS: dict[str, Architecture] = {
    "viptt-net": Architecture(viptt_net, backbone=True, options=("backbone", "temporal", "features")),
    "viptt-net-small": Architecture(small_net, backbone=True),
    "sononet-2d": _of_ultrasound("2d", axes=PICTURES),
    "sononet-3d": _of_ultrasound("3d", axes=VOLUMES),
    "sononet-2+1d": _of_ultrasound("2+1d", axes=VOLUMES, options=("mid_channels",)),
    **{name: _of_pictures(name) for name in NAMES},
}


def architecture(name: str) -> Architecture:
    """The record of a network; raises ConfigError for a name that is not known."""
    if name in NETWORKS:
        return NETWORKS[name]
    if is_own(name):
        return Architecture(partial(_own, name), axes=None)
    if is_published(name):
        return _of_pictures(name)
    close = nearest(name, [*NETWORKS, *published_names()])
    every = f"give one of: {', '.join(NETWORKS)}, a network of keras.applications, or MODULE:FUNCTION"
    remedy = f"did you mean `{close}`?" if close else every
    raise ConfigError.of("--model", "unknown-name", f"there is no {name!r}", remedy)


def build_options(settings: Settings, statistics: tuple[float, float] | None) -> dict[str, Any]:
    """What the builder of a network takes of the settings; ``statistics`` where ``needs_statistics``."""
    known = architecture(settings.model)
    options = {name: getattr(settings, name) for name in known.options if name != "standardise"}
    how = _standardise(settings)
    by_how: dict[str, dict[str, Any]] = {
        "none": {},
        "train": {"statistics": statistics},
        "picture": {"standardise": True},
    }
    return options | by_how[how]


def needs_statistics(settings: Settings) -> bool:
    """Whether the network standardises by mean and deviation of the pictures of the train part."""
    return _standardise(settings) == "train"


def _standardise(settings: Settings) -> str:
    known = architecture(settings.model).standardise
    given = settings.standardise
    if given is None:
        # The weights of the fetal database were trained on standardised pictures; the code of 2025 forgot it.
        start = str(settings.init or settings.weights)
        of_the_database = start.endswith(".pth") and settings.model == "sononet-2d"
        return "picture" if of_the_database and settings.preset is None else known[0]
    if given not in known:
        reason = f"{settings.model} has no `standardise: {given}`"
        raise ConfigError.of("standardise", "bad-value", reason, f"give one of: {', '.join(known)}")
    return given


def check_fits(settings: Settings, shape: tuple[int, ...]) -> None:
    """Raise ConfigError unless the network knows the settings, and reads samples of this shape."""
    known, usual = architecture(settings.model), Settings()
    for name in PARTICULAR:
        value = getattr(settings, name)
        if name not in known.options and value != getattr(usual, name):
            reason = f"{settings.model} knows no `{name}`"
            raise ConfigError.of(name, "needless-setting", reason, f"leave `{name}: {value}` out")
    _check_axes(settings.model, known.axes, shape)


def _check_axes(name: str, axes: int | None, shape: tuple[int, ...]) -> None:
    if axes in (None, len(shape)):
        return
    if axes == PICTURES:
        reason, remedy = "reads single pictures", "build with `sample: picture`, and give no `window`"
        found = "the samples are volumes or windows"
    else:
        reason, remedy = "reads volumes, or windows of pictures", "give a `window`"
        found = "the samples are single pictures"
    raise ConfigError.of("--model", "other-shape", f"{name} {reason}, and {found}", remedy)


def require_backbone(name: str, *, option: str) -> None:
    """Raise ConfigError if an option needs a backbone that this network does not have."""
    if not architecture(name).backbone:
        # Name one that can do it; which one is a matter of size, so the first will do.
        able = [other for other, known in NETWORKS.items() if known.backbone]
        reason = f"{name!r} has no backbone that sees slice after slice"
        remedy = f"leave it out, or use `--model {able[0]}`"
        raise ConfigError.of(option, "no-backbone", reason, remedy)
