"""Mean and standard deviation of the pictures of the train part, by which a network standardises.

They are those of all pixels of the train part, in the range that the network gets, [0, 1]. They are measured
in one pass and kept beside the split file, ``NAME.statistics.json``, with the digests of the store and the
split that they belong to. Validation and test part are never looked at.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from model.stream import Samples, scaled
from pipeline.errors import ResourceError
from pipeline.store import statistics_of, write_durably

PICTURES_AT_ONCE = 64
MEASURED = ("mean", "deviation")
KEYS = {"format", "store_digest", "split_digest", "part", "frames", *MEASURED}
Say = Callable[[str], None]


def train_statistics(
    samples: Samples, split_file: Path, split_digest: str, *, frames: str, say: Say
) -> tuple[float, float]:
    """Mean and deviation of samples, measured unless they are known; ``frames`` says how these were chosen.

    Raises IntegrityError if a picture is damaged.
    """
    path = statistics_of(split_file)
    belongs_to = {
        "format": 1,
        "store_digest": samples.store.digest,
        "split_digest": split_digest,
        "part": samples.name,
        "frames": frames,
    }
    known = _read(path)
    if {name: known.get(name) for name in belongs_to} == belongs_to:
        return float(known["mean"]), float(known["deviation"])
    say(f"measuring mean and deviation of {len(samples.rows)} pictures of {samples.name!r}")
    mean, deviation = measure(samples)
    if not known and path.exists():
        say(f"warning: {path} is no file of statistics: kept; they are measured again next time")
        return mean, deviation
    document = {**belongs_to, "mean": mean, "deviation": deviation}
    try:
        write_durably(path, (json.dumps(document, indent=2) + "\n").encode())
    except ResourceError as error:
        say(f"warning: {error}; they are measured again next time")
    return mean, deviation


def measure(samples: Samples) -> tuple[float, float]:
    """Mean and deviation of all pixels of samples, each of as many pixels as any other.

    The variance is the mean of the pictures' variances plus the variance of their means: one pass, and
    nothing large is subtracted from anything large.
    """
    store, rows = samples.store, samples.rows
    means, variances = np.empty(len(rows)), np.empty(len(rows))
    for start in range(0, len(rows), PICTURES_AT_ONCE):
        here = slice(start, start + PICTURES_AT_ONCE)
        stored = store.read_batch(rows[here]).astype(np.float64)
        values = scaled(stored, store.header.recipe).reshape(len(stored), -1)
        means[here], variances[here] = values.mean(axis=1), values.var(axis=1)
    return float(means.mean()), float(np.sqrt(variances.mean() + means.var()))


def _read(path: Path) -> dict[str, Any]:
    """The statistics of a file; nothing if it is missing, cannot be read, or holds something else."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    ours = isinstance(document, dict) and set(document) == KEYS
    return document if ours and all(isinstance(document[name], float) for name in MEASURED) else {}
