"""Where a training stands, in one file that is there whole or not at all.

``state.npz`` holds every variable of the model in training, its optimizer and its metrics by
position, after the progress as JSON. It is a ZIP file: each array carries a CRC-32, checked on reading.
"""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import IntegrityError
from pipeline.store import write_durably

AGAIN = "train again in another folder"


@dataclass(frozen=True)
class Progress:
    """``epoch`` is the one to work on, ``step`` the batches of it already done, ``stopped`` an early end.

    ``callbacks`` holds what each Keras callback remembers, by its name; ``history`` a row per epoch.
    """

    epoch: int = 0
    step: int = 0
    stopped: bool = False
    callbacks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()


def save_state(path: Path, progress: Progress, variables: Sequence[Any]) -> None:
    """Write the progress and the value of every variable."""
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
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
