"""Steps and schedules, against the rules of PyTorch written out in NumPy."""

from typing import Any

import keras
import numpy as np
import pytest

from model.optimizers import make_optimizer, schedule
from model.settings import Settings


def adam_with_penalty(weight: float, gradients: list[float], *, rate: float, decay: float) -> float:
    """``torch.optim.Adam(lr=rate, weight_decay=decay)``: the penalty goes through the moments."""
    first = second = 0.0
    for step, gradient in enumerate(gradients, start=1):
        gradient += decay * weight
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        mean, deviation = first / (1 - 0.9**step), np.sqrt(second / (1 - 0.999**step))
        weight -= rate * mean / (deviation + 1e-7)
    return weight


def stepped(settings: Settings, gradients: list[float]) -> float:
    weight = keras.Variable([2.0])
    optimizer = make_optimizer(settings)
    optimizer.build([weight])
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor([gradient])], [weight])
    return float(weight.numpy()[0])


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam(decay: float) -> None:
    settings = Settings(optimizer="adam", learning_rate=0.01, weight_decay=decay)
    gradients = [0.3, -0.2, 0.05, 0.4]
    expected = adam_with_penalty(2.0, gradients, rate=0.01, decay=decay)
    assert stepped(settings, gradients) == pytest.approx(expected, rel=1e-5)
    assert decay == 0 or expected != adam_with_penalty(2.0, gradients, rate=0.01, decay=0)


def test_sgd_with_momentum_and_penalty() -> None:
    settings = Settings(learning_rate=0.1, momentum=0.9, weight_decay=0.5)
    weight, speed = 2.0, 0.0
    for gradient in (0.3, -0.2, 0.05):
        speed = 0.9 * speed - 0.1 * (gradient + 0.5 * weight)
        weight += speed
    assert stepped(settings, [0.3, -0.2, 0.05]) == pytest.approx(weight, rel=1e-6)


class Rate:
    """What a schedule sees of a model: an optimizer with a learning rate, and whether to stop."""

    def __init__(self) -> None:
        self.optimizer = keras.optimizers.SGD(1.0)
        self.stop_training = False


def after_each(settings: Settings, logs: list[dict[str, float]]) -> tuple[list[float], int | None, int]:
    """Learning rate after each epoch, the epoch of the stop, the best epoch (both from 0)."""
    model, stopped = Rate(), None
    callbacks: list[Any] = schedule(settings)
    for callback in callbacks:
        callback.set_model(model)
        callback.on_train_begin()
    rates = []
    for epoch, log in enumerate(logs):
        for callback in callbacks:
            callback.on_epoch_end(epoch, dict(log))
        rates.append(round(float(np.asarray(model.optimizer.learning_rate)), 6))
        stopped = epoch if model.stop_training and stopped is None else stopped
    return rates, stopped, callbacks[0].best_epoch


def losses(*values: float) -> list[dict[str, float]]:
    return [{"val_loss": value, "val_accuracy": 0.5} for value in values]


def test_a_plateau_by_an_absolute_threshold() -> None:
    settings = Settings(plateau_patience=2, plateau_factor=0.5, plateau_threshold=0.1, stop_patience=None)
    rates, stopped, _ = after_each(settings, losses(10, 9.95, 9.92, 9.85, 9.84, 9.83))
    # 9.95 and 9.92 are not below 9.9: halved. 9.85 is, and nothing after it is below 9.75.
    assert rates == [1, 1, 0.5, 0.5, 0.5, 0.25]
    assert stopped is None


def test_a_plateau_by_a_relative_threshold() -> None:
    settings = Settings(
        plateau_patience=2, plateau_factor=0.5, plateau_threshold=0.1, plateau_threshold_mode="rel"
    )
    rates, _, _ = after_each(settings, losses(10, 9.5, 9.2, 8.9, 8.5, 8.1))
    # Below 10 by a tenth is 9: 9.5 and 9.2 are not. 8.9 is; below it by a tenth is 8.01.
    assert rates == [1, 1, 0.5, 0.5, 0.5, 0.25]


def test_never_stands_for_no_plateau_and_no_stop() -> None:
    settings = Settings(plateau_patience=None, stop_patience=None)
    assert after_each(settings, losses(*range(50)))[:2] == ([1.0] * 50, None)
    assert after_each(Settings(stop_patience=3), losses(*range(9)))[1] == 3


def test_the_best_epoch_is_by_loss_or_by_accuracy() -> None:
    logs = [
        {"val_loss": 1.0, "val_accuracy": 0.5},
        {"val_loss": 1.2, "val_accuracy": 0.8},
        {"val_loss": 0.9, "val_accuracy": 0.7},
    ]
    assert after_each(Settings(), logs)[2] == 2
    assert after_each(Settings(best="accuracy"), logs)[2] == 1
