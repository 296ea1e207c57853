"""Networks that a user brings: ``--model module:function``, a function of a module that Python can import.

    network   function(shape, classes) -> keras.Model   (B, *shape) to class probabilities (B, classes)
    backbone  function(shape) -> keras.Model            (N, height, width, channels) to features

``shape`` is that of one sample, without the batch: (height, width, 1) for a picture, (depth, height,
width, 1) for a volume. Samples are float in [0, 1]. The function builds the network from code each
time, also where a run's weights are loaded; it must therefore build the same graph each time.

Importing a module runs its code: the name comes from the user, or from a run that the user names.
"""

import importlib
from collections.abc import Callable

import keras

from pipeline.errors import ConfigError

RULE = "give MODULE:FUNCTION, and set PYTHONPATH to the folder of MODULE"


def is_own(name: str) -> bool:
    """Whether ``name`` has the form ``module:function``."""
    return ":" in name


def own_network(name: str, shape: tuple[int, ...], classes: int) -> keras.Model:
    """Call the user's function for a whole network.

    Raises ConfigError if there is no such function, it fails, or what it gives is no network from
    ``shape`` to ``classes`` probabilities.
    """
    net = _called(name, shape, classes)
    if tuple(net.input_shape) != (None, *shape) or tuple(net.output_shape) != (None, classes):
        reason = f"its network maps {net.input_shape} to {net.output_shape}"
        remedy = f"let it map {(None, *shape)} to {(None, classes)}"
        raise ConfigError.of(name, "other-shape", reason, remedy)
    return net


def own_backbone(name: str, shape: tuple[int, int, int], *, rank: int) -> keras.Model:
    """Call the user's function for a backbone whose output has ``rank`` axes: 2, or 4 for feature maps.

    Raises ConfigError as ``own_network``.
    """
    net = _called(name, shape)
    if tuple(net.input_shape) != (None, *shape) or len(net.output_shape) != rank:
        reason = f"its network maps {net.input_shape} to {net.output_shape}"
        wanted = "features (None, n)" if rank == 2 else "feature maps (None, height, width, n)"
        raise ConfigError.of(name, "other-shape", reason, f"let it map {(None, *shape)} to {wanted}")
    return net


def _called(name: str, *values: object) -> keras.Model:
    function = _function(name)
    try:
        net = function(*values)
    except Exception as error:  # whatever the user's code raises
        raise ConfigError.of(
            name, "own-model-failed", repr(error), f"call it with {values} to see why"
        ) from error
    if not isinstance(net, keras.Model):
        raise ConfigError.of(name, "no-model", f"it gives a {type(net).__name__}", "return a keras.Model")
    return net


def _function(name: str) -> Callable[..., object]:
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise ConfigError.of(name, "unknown-name", "it is not MODULE:FUNCTION", RULE)
    try:
        function: Callable[..., object] | None = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:  # whatever the user's module raises when it is imported
        raise ConfigError.of(name, "no-module", f"it cannot be imported: {error!r}", RULE) from error
    if not callable(function):
        raise ConfigError.of(name, "unknown-name", f"{module} has no function {attribute!r}", RULE)
    return function
