"""How the weights move: the optimizers, and the schedule of the learning rate.

``weight_decay`` is the L2 penalty of the SonoNets' training in PyTorch: it is added to the gradient,
and so goes through Adam's moments. Keras' own argument of that name shrinks the weights beside the step
(AdamW; I. Loshchilov and F. Hutter, ICLR 2019), which gives other numbers.
"""

import sys
from typing import Any

import keras
from keras import ops

from model.settings import Settings

LOSS, ACCURACY = "val_loss", "val_accuracy"


class DecayingSGD(keras.optimizers.SGD):  # type: ignore[misc]  # Keras has no types
    """Steps along the gradient, and along momentum if there is any."""

    penalty = 0.0

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Change one variable."""
        super().update_step(_decaying(gradient, variable, self.penalty), variable, learning_rate)


class DecayingAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """D. Kingma and J. Ba, ICLR 2015."""

    penalty = 0.0

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Change one variable."""
        super().update_step(_decaying(gradient, variable, self.penalty), variable, learning_rate)


def _decaying(gradient: Any, variable: Any, penalty: float) -> Any:
    return gradient + penalty * ops.cast(variable, gradient.dtype) if penalty else gradient


def make_optimizer(settings: Settings) -> keras.optimizers.Optimizer:
    """A new optimizer, as the settings say."""
    rate = settings.learning_rate
    made = (
        DecayingAdam(rate) if settings.optimizer == "adam" else DecayingSGD(rate, momentum=settings.momentum)
    )
    made.penalty = settings.weight_decay
    return made


def schedule(settings: Settings) -> list[keras.callbacks.Callback]:
    """Early stopping, which knows the best epoch, and the plateau rule; both look at the validation part."""
    by_accuracy = settings.best == "accuracy"
    stopping = keras.callbacks.EarlyStopping(
        ACCURACY if by_accuracy else LOSS,
        mode="max" if by_accuracy else "min",
        # None stands for never: more epochs than a training can have.
        patience=settings.stop_patience or sys.maxsize,
    )
    relative = settings.plateau_threshold_mode == "rel"
    plateau = keras.callbacks.ReduceLROnPlateau(
        LOSS,
        mode="min",
        factor=settings.plateau_factor,
        patience=settings.plateau_patience or sys.maxsize,
        min_delta=0.0 if relative else settings.plateau_threshold,
    )
    if relative:
        # Keras knows absolute thresholds only; what is set here, it does not set itself.
        plateau.monitor_op = lambda loss, best: loss < best * (1 - settings.plateau_threshold)
    return [stopping, plateau]
