"""What runs decide for single pictures, for stacks and for groups, so that one table can show it.

A network of pictures decides for a stack by a rule over its pictures; a network that reads whole stacks,
such as a CNN-RNN, decides by itself. Scores are those of ``metrics.json``, fractions with the bounds of
their 95 % intervals. Needs no TensorFlow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.judged import Judged
from model.scores import Score

ITSELF = "itself"


@dataclass(frozen=True)
class Decided:
    """The scores of one way to decide for each ``unit``: "picture", "stack" or "group".

    ``rule`` is "itself" for the network's own answers, else "mean" or "any", see ``model.decisions``.
    """

    unit: str
    rule: str
    samples: int
    accuracy: Score
    kappa: Score
    macro_f1: Score


def decided(document: Mapping[str, Any], *, pictures: bool) -> tuple[Decided, ...]:
    """All ways to decide that an evaluation scored, from the finest unit to the coarsest.

    Raises KeyError or TypeError if ``document`` is no content of ``metrics.json``.
    """
    itself = _decided("picture" if pictures else "stack", ITSELF, document["scores"])
    levels = document.get("levels", ())  # viptt 0.2.0 wrote none
    return (itself, *(_decided(level["unit"], level["rule"], level["scores"]) for level in levels))


def _decided(unit: str, rule: str, scores: Mapping[str, Any]) -> Decided:
    bounds = scores.get("intervals", {})

    def score(name: str, value: float | None) -> Score:
        return Score(value, *bounds.get(name, (None, None)))

    return Decided(
        unit,
        rule,
        scores["samples"],
        score("accuracy", scores["accuracy"]),
        score("kappa", scores["kappa"]),
        score("macro f1", scores.get("macro", {}).get("f1")),
    )


@dataclass(frozen=True)
class Stacks:
    """How many stacks each run judged, and how many of them all runs did, with the same true class."""

    common: int
    of_runs: Mapping[str, int]

    @property
    def same(self) -> bool:
        """Whether all runs judged the same stacks."""
        return set(self.of_runs.values()) == {self.common}


def stacks_of(runs: Mapping[str, Judged]) -> Stacks:
    """Compare the stacks of runs, at least one: those of the pictures, or the samples themselves."""
    found = {
        name: set(zip(judged.stacks or judged.ids, judged.truth.tolist(), strict=True))
        for name, judged in runs.items()
    }
    return Stacks(len(set.intersection(*found.values())), {name: len(each) for name, each in found.items()})
