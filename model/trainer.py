"""The network with what only training needs around it: frozen layers, augmentation, optimizer, loss.

The trainer and the network share their layers, so that the network can be saved without the rest.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from model.architectures import architecture, require_backbone
from model.augmentation import augmentation_layers
from model.features import check_origin
from model.loading import build_network
from model.network import classifier, fix_adapter, freeze_backbone, rematerialized
from model.optimizers import make_optimizer
from model.run_folder import Data
from model.settings import Settings
from model.windows import sample_shape
from pipeline.errors import ConfigError
from pipeline.store import Store


@contextmanager
def precision(settings: Settings) -> Iterator[None]:
    """Seed everything, and set Keras' precision while the network is built."""
    keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        # For the whole process: TensorFlow has no other switch.
        tf.config.experimental.enable_op_determinism()
    before = keras.config.dtype_policy()
    # Layers take the policy when they are built, so it is set only around that.
    keras.config.set_dtype_policy("mixed_float16" if settings.mixed_precision else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def starting_network(settings: Settings, data: Data, store: Store) -> keras.Model:
    """The network as a training begins with it; ``store`` holds the volumes or features it reads.

    Raises ConfigError if the network cannot do what the settings ask for, IntegrityError if the
    features in the store come from another backbone.
    """
    _check_possible(settings)
    shape = sample_shape(data.shape, data.recipe, settings.window)
    net = build_network(settings, shape, len(data.classes), statistics=data.statistics)
    if _frozen(settings, data):
        freeze_backbone(net)
    if settings.from_features:
        fix_adapter(net)
        check_origin(store, net, settings.model)
    return net


def _check_possible(settings: Settings) -> None:
    wanted = {
        "--freeze": settings.freeze_backbone is True,
        "--from-features": settings.from_features,
        "--remat": settings.remat,
    }
    for option, given in wanted.items():
        if given:
            require_backbone(settings.model, option=option)


def _frozen(settings: Settings, data: Data) -> bool:
    """By default as in the paper: VGG-16 stays as it is on videos, and is trained on scans."""
    by_default = data.type == "video" and architecture(settings.model).backbone
    return by_default if settings.freeze_backbone is None else settings.freeze_backbone


def make_trainer(net: keras.Model, settings: Settings) -> keras.Model:
    """Wrap a network for training and compile that; the network itself stays uncompiled."""
    body = rematerialized(net) if settings.remat else net
    if settings.from_features:
        # The features enter behind the backbone, which is not run at all.
        body = classifier(net)
    sample = keras.Input(body.input_shape[1:], name="sample")
    changed = sample
    for layer in augmentation_layers(settings, net.input_shape[1:]):
        if settings.jit_compile:
            _check_compiles(layer, net.input_shape[1:])
        changed = layer(changed)
    trainer = _Trainer(sample, body(changed), name="trainer")
    trainer.compile(
        optimizer=make_optimizer(settings),
        loss="categorical_crossentropy",
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=settings.jit_compile,
    )
    # A checkpoint is restored before the first step, and needs these variables by then.
    trainer.optimizer.build(trainer.trainable_variables)
    # Keras makes a metric's variables when it first sees data; a checkpoint needs them before.
    nothing = tf.one_hot([0], net.output_shape[-1])
    trainer.compute_metrics(None, nothing, nothing)
    trainer.reset_metrics()
    return trainer


def _check_compiles(layer: keras.layers.Layer, shape: tuple[int, ...]) -> None:
    """Raise ConfigError unless XLA has all operations of a layer; those that move pixels it may lack."""
    compiled = tf.function(lambda samples: layer(samples, training=True), jit_compile=True)
    try:
        compiled(tf.zeros((1, *shape)))
    except tf.errors.OpError as error:
        reason = f"XLA cannot compile the layer {layer.name}, counted from 0"
        raise ConfigError.of("--jit-compile", "bad-value", reason, "leave one of the two out") from error


class _Trainer(keras.Model):  # type: ignore[misc]  # Keras has no types
    """A model that is built before it is trained."""

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        """On several devices Keras would read a batch to build by, and fail if its shares are uneven."""
