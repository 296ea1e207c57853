"""The page about a store: findings and pictures into one HTML text."""

import json
from pathlib import Path

from markupsafe import Markup

from pipeline import pages
from pipeline.catalog.schema import Dataset
from pipeline.pages import Environment, policy, require_new, require_own
from pipeline.report.cards import card_context, croissant_json, samples_csv
from pipeline.report.charts import area, outline
from pipeline.report.collect import NO_SPLIT, Findings, Histogram, collect
from pipeline.report.pictures import STEPS, choose_shown, read_strips
from pipeline.report.samples import SampleFigures
from pipeline.split.file import write_file
from pipeline.store import open_store

MOST_ROWS = 2000  # of the table of samples
MOST_QUARANTINED = 500
CHART = (320, 100)
SPARK = (64, 16)
FRAMES = ("video", "frames")  # types whose stacks are over time


def write_report(dataset: Dataset, out: Path | None, *, cards: bool = False) -> tuple[Path, ...]:
    """Write the page about a dataset's store, by default beside the store; returns what was written.

    With ``cards`` also the dataset card, Croissant metadata and the table of samples, beside the page. People
    fill them in, so they are never replaced.

    Raises IntegrityError if there is no store or it is damaged, ConfigError if a file that is no such page
    is in the place of the page, or any file in that of a card, ResourceError if one cannot be written.
    """
    name = dataset.store.name.removesuffix(".zarr")
    page = out or dataset.store.with_name(f"{name}.report.html")
    card, metadata, table = (
        page.with_name(f"{name}.{end}") for end in ("card.md", "croissant.json", "samples.csv")
    )
    require_own(page)
    for path in (card, metadata, table) if cards else ():
        require_new(path)
    found = collect(dataset, open_store(dataset.store))
    texts = {page: render(found).encode("utf-8", "surrogateescape")}
    if cards:
        text = environment().get_template("card.md").render(card_context(found))
        texts |= {card: text.encode("utf-8", "surrogateescape")}
        texts |= {metadata: croissant_json(found, table), table: samples_csv(found)}
    for path, content in texts.items():
        write_file(path, content)
    return tuple(texts)


def render(findings: Findings) -> str:
    """The HTML text of the page. Raises IntegrityError if a volume that it shows is damaged."""
    store = findings.store
    odd, by_class = choose_shown(findings.samples, store.header.classes)
    shown = [*odd, *(sample for held in by_class.values() for sample in held)]
    templates = environment()
    script = "\n".join(templates.get_template(name).render() for name in ("slider.js", "table.js"))
    window = store.header.recipe.get("window")
    return templates.get_template("page.html").render(
        found=findings,
        store=store,
        header=store.header,
        odd=odd,
        by_class=by_class,
        strips=read_strips(store, shown),
        shown=len({sample.index for sample in shown}),
        rows=findings.samples[:MOST_ROWS],
        quarantined=findings.quarantined[:MOST_QUARANTINED],
        steps=min(STEPS, store.header.shape[0]),
        word="frame" if store.header.recipe["type"] in FRAMES else "slice",
        recipe={name: json.dumps(value) for name, value in store.header.recipe.items()},
        marks=_marks(findings.limits, window),
        peak=max((max(item.shares) for item in _all_histograms(findings)), default=0.0),
        script=Markup(script),
        policy=policy(script),
    )


def environment() -> Environment:
    """The templates of pages about stores, with what they call."""
    made = pages.environment("pipeline.report")
    made.filters |= {"spark": _spark, "mean": _mean}
    made.globals |= {"area": area, "outline": outline, "CHART": CHART, "NO_SPLIT": NO_SPLIT}
    return made


def _spark(sample: SampleFigures) -> str:
    return area(sample.histogram, max(sample.histogram, default=0.0), *SPARK)


def _mean(histograms: tuple[Histogram, ...]) -> tuple[float, ...]:
    """The mean of all their samples, for comparison."""
    total = sum(item.samples for item in histograms)
    columns = zip(*((share * item.samples for share in item.shares) for item in histograms), strict=True)
    return tuple(sum(column) / total for column in columns)


def _all_histograms(findings: Findings) -> tuple[Histogram, ...]:
    return (*findings.by_class, *findings.by_split)


def _marks(limits: tuple[float, float] | None, window: list[float] | None) -> list[float]:
    """Where the window's bounds lie in a chart, in its own units."""
    if not limits or not window:
        return []
    low, high = limits
    return [CHART[0] * (bound - low) / (high - low) for bound in window if low < bound < high]
