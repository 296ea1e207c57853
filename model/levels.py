"""Decisions for groups, such as patients, scored beside those for single samples.

Labels and class probabilities of samples in, scores out; no files. ``model.decisions`` has the rules.
A sample whose name of a group is "" stands for itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.decisions import by_any, by_mean, labels_of
from model.scores import Scores, score
from pipeline.errors import ConfigError

# What data sets call the class of those without a finding, in lower case.
BACKGROUNDS = ("normal", "healthy", "negative", "background")


@dataclass(frozen=True)
class Level:
    """The scores of one ``rule``, "mean" or "any", for all that belongs to one ``unit``, such as a group."""

    unit: str
    rule: str
    scores: Scores


def background_of(classes: Sequence[str], given: str | None) -> int | None:
    """The class of those without a finding: the one given, or one called "Normal" or the like.

    None where no class is called so. Raises ConfigError if the one given is no class.
    """
    if given is None:
        named = [index for index, name in enumerate(classes) if name.casefold() in BACKGROUNDS]
        return named[0] if named else None
    if given not in classes:
        reason = f"there is no class {given!r}"
        raise ConfigError.of("--background", "unknown-name", reason, f"give one of: {', '.join(classes)}")
    return list(classes).index(given)


def levels(
    labels: Sequence[int],
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    names: Sequence[str],
    *,
    unit: str,
    background: int | None,
) -> tuple[Level, ...]:
    """Score the decisions for all samples of a name, by mean probability and by the most suspicious sample.

    ``probabilities`` is (n, classes), ``names`` says for each sample what it belongs to. Without a
    background class there is no second rule; where no two samples belong together, there is no level.
    Raises ConfigError where samples of one name have different classes.
    """
    owners = [f"{unit} {name}" if name else f"sample {index}" for index, name in enumerate(names)]
    if len(set(owners)) == len(owners):
        return ()
    truth, decided = labels_of(labels, owners), {"mean": by_mean(probabilities, owners)}
    if background is not None:
        decided["any"] = by_any(probabilities, owners, background=background)
    return tuple(
        Level(unit, rule, score(truth, found.probabilities, classes)) for rule, found in decided.items()
    )
