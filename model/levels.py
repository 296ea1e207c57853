"""Decisions for what belongs together, such as the samples of a patient, scored beside single samples.

Labels and class probabilities of samples in, scores out; no files. ``model.decisions`` has the rules.
``units`` says for each kind of unit, from the finest to the coarsest, which one a sample is of; a sample
whose unit is "" stands for itself. A rule is applied once per kind, so that in the decision for a patient
each scan counts once, however many slices it has.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from model.decisions import Decisions, by_any, by_mean, labels_of
from model.scores import Scores, score
from pipeline.errors import ConfigError

Units = Mapping[str, Sequence[str]]
Rule = Callable[[NDArray[np.floating], Sequence[str]], Decisions]
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


def consistent(labels: Sequence[int], units: Units) -> tuple[Units, list[str]]:
    """The kinds of units that can be decided for, and for each other one a sentence that says why not.

    All samples of a unit must have one class.
    """
    usable, refused = {}, []
    for kind, names in units.items():
        try:
            labels_of(labels, _owners(kind, names))
            usable[kind] = names
        except ConfigError as error:
            refused.append(f"no decisions for a {kind}: {error.problems[0].reason}")
    return usable, refused


def levels(
    labels: Sequence[int],
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    units: Units,
    *,
    background: int | None,
) -> tuple[Level, ...]:
    """Score decisions for each kind of unit, by mean probability and by the most suspicious part.

    ``probabilities`` is (n, classes); the units are as ``consistent`` gives them. Without a background
    class there is no second rule; where no two samples belong together, there is no level.
    """
    rules: dict[str, Rule] = {"mean": by_mean}
    if background is not None:
        rules["any"] = partial(by_any, background=background)
    owners = {kind: _owners(kind, names) for kind, names in units.items()}
    parts = _Parts(np.asarray(labels, np.int64), np.asarray(probabilities, np.float64), owners)
    of_rules = [_of_rule(name, rule, parts, classes) for name, rule in rules.items()]
    return tuple(level for of_unit in zip(*of_rules, strict=True) for level in of_unit)


@dataclass(frozen=True)
class _Parts:
    """What a rule decides from: true class, probabilities, and the units of each kind still to come."""

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    owners: Mapping[str, Sequence[str]]

    def merged(self, kind: str, rule: Rule) -> "_Parts":
        """One part for each unit of a kind."""
        names = self.owners[kind]
        decided = rule(self.probabilities, names)
        first = {name: index for index, name in reversed(list(enumerate(names)))}
        coarser = {
            other: [column[first[name]] for name in decided.names] for other, column in self.owners.items()
        }
        return _Parts(labels_of(self.labels, names), decided.probabilities, coarser)


def _of_rule(name: str, rule: Rule, parts: _Parts, classes: Sequence[str]) -> list[Level]:
    found = []
    for kind in parts.owners:
        before, parts = len(parts.labels), parts.merged(kind, rule)
        if len(parts.labels) < before:
            *_, coarsest = parts.owners.values()
            scores = score(parts.labels, parts.probabilities, classes, groups=coarsest)
            found.append(Level(kind, name, scores))
    return found


def _owners(kind: str, names: Sequence[str]) -> list[str]:
    return [f"{kind} {name}" if name else f"sample {index}" for index, name in enumerate(names)]
