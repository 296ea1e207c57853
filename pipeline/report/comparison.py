"""Two stores of the same sources side by side: recipes, pictures with their difference, numbers.

Differences are in units of the range of values, 0 to 1, whatever the dtype of a store.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pipeline.catalog.schema import Dataset
from pipeline.errors import Code, ConfigError
from pipeline.pages import policy, require_own
from pipeline.readers import SOURCE_TYPES
from pipeline.report.page import FRAMES, environment
from pipeline.report.pictures import BUDGET, GAIN, STEPS, Strip, choose_shown, pair_strip
from pipeline.report.samples import SampleFigures, sample_figures
from pipeline.split.file import write_file
from pipeline.store import Row, Store, open_store

NOTABLE = 0.05  # a difference that the eye sees
MISSING = "–"


@dataclass(frozen=True)
class Parameter:
    """One parameter of both recipes, as JSON."""

    name: str
    values: tuple[str, str]

    @property
    def differs(self) -> bool:
        """Whether the recipes differ in it."""
        return self.values[0] != self.values[1]


@dataclass(frozen=True)
class Comparison:
    """What can be told without reading volumes. ``common`` are the rows, in both stores, of equal samples.

    ``alone`` are ids that only the first or only the second store has; ``other_source`` those that were
    made from another file in each, ``other_label`` those of another class.
    """

    stores: tuple[Store, Store]
    parameters: tuple[Parameter, ...]
    common: Mapping[int, int]
    alone: tuple[tuple[str, ...], tuple[str, ...]]
    other_source: tuple[str, ...]
    other_label: tuple[str, ...]

    @property
    def names(self) -> tuple[str, str]:
        """The names of the datasets."""
        first, second = self.stores
        return first.header.dataset, second.header.dataset

    @property
    def different(self) -> tuple[Parameter, ...]:
        """The parameters in which the recipes differ."""
        return tuple(parameter for parameter in self.parameters if parameter.differs)

    @property
    def unequal_shapes(self) -> bool:
        """Whether volumes cannot be compared voxel by voxel."""
        first, second = self.stores
        return first.header.shape != second.header.shape


@dataclass(frozen=True)
class Pair:
    """One sample of both stores: its pictures, and mean and largest difference; NaN for unequal shapes.

    ``notable`` is the share of voxels that differ by more than ``NOTABLE``.
    """

    strip: Strip
    mean: float
    largest: float
    notable: float


def write_comparison(first: Dataset, second: Dataset, out: Path | None) -> Path:
    """Write the page about two datasets, by default beside the store of the first; returns its path.

    Raises IntegrityError if a store is missing or damaged, ConfigError if they have no sample in common
    or another file is in the place of the page, ResourceError if it cannot be written.
    """
    page = out or first.store.with_name(f"{first.name}.{second.name}.comparison.html")
    require_own(page)
    found = compare(open_store(first.store), open_store(second.store))
    write_file(page, render(found).encode("utf-8", "surrogateescape"))
    return page


def compare(first: Store, second: Store) -> Comparison:
    """Find the samples that both stores made of the same sources, and what differs in the recipes.

    Raises ConfigError if there is no such sample.
    """
    here, there = _rows(first), _rows(second)
    both = [name for name in here if name in there]
    same = [name for name in both if here[name][1].source_sha256 == there[name][1].source_sha256]
    if not same:
        reason = f"it has no sample in common with {first.header.dataset}"
        remedy = "name a dataset of the same sources"
        raise ConfigError.of(second.header.dataset, Code.NO_COMMON_SAMPLES, reason, remedy)
    return Comparison(
        stores=(first, second),
        parameters=tuple(_parameters(first.header.recipe, second.header.recipe)),
        common={here[name][0]: there[name][0] for name in same},
        alone=(
            tuple(name for name in here if name not in there),
            tuple(name for name in there if name not in here),
        ),
        other_source=tuple(name for name in both if name not in set(same)),
        other_label=tuple(name for name in both if _label(first, here[name]) != _label(second, there[name])),
    )


def _rows(store: Store) -> dict[str, tuple[int, Row]]:
    return {row.id: (index, row) for index, row in enumerate(store.rows)}


def _label(store: Store, row: tuple[int, Row]) -> str:
    return store.header.classes[row[1].label]


def _parameters(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterable[Parameter]:
    """All parameters, those that differ first."""
    names = dict.fromkeys([*first, *second])
    found = [Parameter(name, (_text(first, name), _text(second, name))) for name in names]
    return sorted(found, key=lambda parameter: not parameter.differs)


def _text(recipe: Mapping[str, Any], name: str) -> str:
    return json.dumps(recipe[name]) if name in recipe else MISSING


# --- volumes ------------------------------------------------------------------------------------


def read_pairs(found: Comparison) -> list[Pair]:
    """Some of the common samples, with pictures and numbers. Raises IntegrityError if one is damaged."""
    shown = _shown(found)
    return [_pair(found, sample, BUDGET // len(shown)) for sample in shown]


def _shown(found: Comparison) -> list[SampleFigures]:
    """Samples of each class of the first store, chosen as on its own page."""
    store = found.stores[0]
    source_type = SOURCE_TYPES[store.header.recipe["type"]]
    figures = sample_figures(store.rows, store.header.classes, {}, source_type)
    both = [sample for sample in figures if sample.index in found.common]
    _, by_class = choose_shown(both, store.header.classes)
    return [sample for held in by_class.values() for sample in held]


def _pair(found: Comparison, sample: SampleFigures, budget: int) -> Pair:
    rows = (sample.index, found.common[sample.index])
    first, second = (store.read(row) for store, row in zip(found.stores, rows, strict=True))
    strip = pair_strip(first, second, sample, budget)
    if found.unequal_shapes:
        return Pair(strip, np.nan, np.nan, np.nan)
    apart = np.abs(_in_range(first) - _in_range(second))
    return Pair(strip, float(apart.mean()), float(apart.max()), float((apart > NOTABLE).mean()))


def _in_range(volume: NDArray[Any]) -> NDArray[np.float32]:
    """The values of a volume from 0 to 1."""
    values = volume.astype(np.float32)
    return values / np.float32(255) if volume.dtype == np.uint8 else values


def render(found: Comparison) -> str:
    """The HTML text of the page. Raises IntegrityError if a volume that it shows is damaged."""
    templates = environment()
    script = templates.get_template("slider.js").render()
    header = found.stores[0].header
    return templates.get_template("comparison.html").render(
        found=found,
        pairs=read_pairs(found),
        steps=min(STEPS, header.shape[0]),
        word="frame" if header.recipe["type"] in FRAMES else "slice",
        saturation=0.5 / GAIN,
        notable=NOTABLE,
        script=Markup(script),
        policy=policy(script),
    )
