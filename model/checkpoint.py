"""Checkpoints: where a training stands, in one file that is whole or not there.

``state.npz`` holds the progress as JSON, then every variable of the model in training, its optimizer
and its metrics by position. It is a ZIP file: each array carries a CRC-32, checked on reading.

Each epoch is a ``fit`` of its own, and each ``fit`` resets Keras' callbacks. So what they remember is
part of the progress, and given back to them when the next ``fit`` begins.
"""

import io
import json
import math
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from model.events import Events
from model.optimizers import LOSS, schedule
from model.run_folder import EVENTS, STATE, WEIGHTS, write_history
from model.settings import Settings
from model.weights import save_weights
from pipeline.errors import IntegrityError, VipttError
from pipeline.store import write_durably

AGAIN = "train again in another folder"
# What EarlyStopping and ReduceLROnPlateau have to know of earlier epochs.
REMEMBERED = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")


@dataclass(frozen=True)
class Progress:
    """``epoch`` counts finished epochs, ``step`` the finished batches of the next; ``stopped``: ended early.

    ``callbacks`` holds what each Keras callback remembers, by its name; ``history`` a row per epoch.
    """

    epoch: int = 0
    step: int = 0
    stopped: bool = False
    callbacks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()


# --- the file -----------------------------------------------------------------------------------


def save_state(path: Path, progress: Progress, variables: Sequence[Any]) -> None:
    """Write the progress and the value of every variable."""
    # The progress goes into the same file: in two files, a kill could leave them apart.
    text = json.dumps(asdict(progress)).encode()
    buffer = io.BytesIO()
    np.savez(buffer, np.frombuffer(text, np.uint8), *[variable.numpy() for variable in variables])
    write_durably(path, buffer.getvalue())


def load_state(path: Path) -> tuple[Progress, list[NDArray[Any]]]:
    """Read what ``save_state`` wrote; raises IntegrityError if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as state:
            text, *values = [state[f"arr_{index}"] for index in range(len(state.files))]
            document = json.loads(text.tobytes())
            return Progress(**{**document, "history": tuple(document["history"])}), values
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise IntegrityError.of(path, "state-damaged", f"it cannot be read: {error}", AGAIN) from error


def restore(path: Path, variables: Sequence[Any], values: Sequence[NDArray[Any]]) -> None:
    """Assign saved values to variables, in order; raises IntegrityError if they do not fit."""
    expected = [tuple(variable.shape) for variable in variables]
    if [value.shape for value in values] != expected:
        raise IntegrityError.of(path, "other-network", "it belongs to another network or optimizer", AGAIN)
    # Only now, when all shapes are known to fit, so that a refused file changes nothing.
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


# --- during training ----------------------------------------------------------------------------


class Checkpoint(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Writes the best weights, the history and the training state to the run; resumes from them.

    ``schedule`` are the callbacks for learning rate and early stopping; they must run before this one.
    ``waited`` gives the seconds that the current epoch has waited for its input.
    """

    def __init__(self, folder: Path, settings: Settings, net: keras.Model, trainer: keras.Model) -> None:
        super().__init__()
        self.folder, self.settings, self.net, self.trainer = folder, settings, net, trainer
        self.schedule = schedule(settings)
        self.waited: Callable[[], float] = lambda: 0.0
        self.running_means: list[NDArray[Any]] = []
        self.events = Events(folder / EVENTS)
        self.progress = Progress()

    @property
    def finished(self) -> bool:
        """True once every epoch is done, or early stopping has ended the training."""
        return self.progress.stopped or self.progress.epoch >= self.settings.epochs

    def resume(self) -> bool:
        """Load the state of the run; False where there is none yet."""
        path = self.folder / STATE
        if not path.exists():
            return False
        self.progress, values = load_state(path)
        restore(path, variables_of(self.trainer), values)
        if self.progress.step:  # Keras resets the metrics when an epoch begins
            self.running_means = [variable.numpy() for variable in self.trainer.metrics_variables]
        return True

    def on_train_begin(self, logs: Any = None) -> None:
        """Give the schedule back what it knew before this ``fit``."""
        for callback in self.schedule:
            vars(callback).update(self.progress.callbacks.get(type(callback).__name__, {}))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Continue the running means of an epoch that was begun before."""
        for variable, value in zip(self.trainer.metrics_variables, self.running_means, strict=False):
            variable.assign(value)
        self.running_means = []
        self.begun = self.saved = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save the state every ``checkpoint_s`` seconds; after the last batch the epoch's end does."""
        # By the clock, not by the step: a step may take a millisecond or a minute.
        now = time.monotonic()
        self.trained = now - self.begun
        due = now - self.saved >= self.settings.checkpoint_s
        if due and batch + 1 < self.params["steps"]:
            self._save(replace(self.progress, step=self.progress.step + batch + 1))
            self.saved = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save the weights if they are the best so far, then note that the epoch is done."""
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}}
        # Validation is not counted: it would hide how long the training itself waits for its input.
        row |= {"seconds": round(self.trained, 3), "input_wait": round(self.waited() / self.trained, 4)}
        _check_finite(self.folder, row)
        # EarlyStopping has already seen this epoch, since it stands before this callback.
        if self.schedule[0].best_epoch == epoch:
            save_weights(self.net, self.folder / WEIGHTS)
        history = (*self.progress.history, row)
        memory = {type(callback).__name__: _memory(callback) for callback in self.schedule}
        self.progress = Progress(epoch + 1, 0, self.trainer.stop_training, memory, history)
        # After a kill between these lines the epoch is trained again, or the history written one epoch later.
        self.events.add(row)
        self._save(self.progress)
        write_history(self.folder, history)

    def _save(self, progress: Progress) -> None:
        save_state(self.folder / STATE, progress, variables_of(self.trainer))


def variables_of(trainer: keras.Model) -> list[Any]:
    """Every variable that a training changes, once each, in a fixed order."""
    # Layers and optimizer may share variables; saved twice, they could be restored to two values.
    every = [*trainer.variables, *trainer.optimizer.variables, *trainer.metrics_variables]
    return list({id(variable): variable for variable in every}.values())


def _memory(callback: keras.callbacks.Callback) -> dict[str, Any]:
    return {name: vars(callback)[name] for name in REMEMBERED if name in vars(callback)}


def _check_finite(folder: Path, row: Mapping[str, float]) -> None:
    for name in ("loss", LOSS):
        if not math.isfinite(row[name]):
            reason = f"{name} is {row[name]} in epoch {row['epoch']}"
            raise VipttError.of(folder, "diverged", reason, "train again with a smaller `--learning-rate`")
