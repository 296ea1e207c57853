"""Importing TensorFlow and Keras for a command: quietly, and with a remedy where they are missing.

Importing this module imports neither.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec

from pipeline.errors import ConfigError

PACKAGES = ("tensorflow", "keras", "h5py", "sklearn")
STDERR = 2


def load_framework(*, verbose: bool, figures: bool = False) -> None:
    """Import TensorFlow and Keras; raise ConfigError if a package is missing.

    ``figures`` says that matplotlib is needed as well. Not ``verbose``, nothing is printed.
    """
    for name in PACKAGES:
        _require(name)
    if figures:
        require_figures()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with nullcontext() if verbose else _native_stderr_closed():
        import keras  # noqa: F401 - it finds out about its backend now
        import tensorflow as tf

        tf.config.list_physical_devices()  # the search for GPUs prints too, once


def require_figures() -> None:
    """Raise ConfigError if matplotlib is missing."""
    _require("matplotlib")


def _require(name: str) -> None:
    if find_spec(name) is None:
        remedy = "run `pip install 'viptt[train]'`"
        raise ConfigError.of("viptt", "missing-package", f"{name} is not installed", remedy)


@contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """Discard what native code prints to stderr, such as TensorFlow's remarks on missing GPUs."""
    sys.stderr.flush()
    saved, nowhere = os.dup(STDERR), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STDERR)
    try:
        yield
    finally:
        os.dup2(saved, STDERR)
        os.close(saved)
        os.close(nowhere)
