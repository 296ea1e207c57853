"""The page: findings and pictures into one HTML text that asks nothing of any other place.

Names, labels and messages come from others: Jinja2 escapes them all, and the page's content security policy
lets nothing run but the one script whose hash it names.
"""

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline import __version__
from pipeline.catalog.schema import Dataset
from pipeline.errors import Code, ConfigError
from pipeline.escape import printable
from pipeline.report.cards import card_context, croissant_json, samples_csv
from pipeline.report.charts import area, outline
from pipeline.report.collect import NO_SPLIT, Findings, Histogram, collect
from pipeline.report.pictures import STEPS, choose_shown, read_strips
from pipeline.report.samples import SampleFigures
from pipeline.split.file import write_file
from pipeline.store import open_store

GENERATOR = "viptt report"
SIGNATURE = f"{GENERATOR} {__version__}"
HEAD_BYTES = 2000  # of a page, within which it names its generator
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
        _require_new(path)
    found = collect(dataset, open_store(dataset.store))
    texts = {page: render(found).encode("utf-8", "surrogateescape")}
    if cards:
        text = environment().get_template("card.md").render(card_context(found))
        texts |= {card: text.encode("utf-8", "surrogateescape")}
        texts |= {metadata: croissant_json(found, table), table: samples_csv(found)}
    for path, content in texts.items():
        write_file(path, content)
    return tuple(texts)


def require_own(path: Path) -> None:
    """Refuse to replace what is no page of ours."""
    if path.is_file():
        with path.open("rb") as file:
            ours = f'content="{GENERATOR} '.encode() in file.read(HEAD_BYTES)
    else:
        ours = not path.exists()
    if not ours:
        remedy = "name another file with `--out`"
        raise ConfigError.of(path, Code.OUT_EXISTS, "it is there and is no page of `viptt report`", remedy)


def _require_new(path: Path) -> None:
    if path.exists():
        raise ConfigError.of(path, Code.OUT_EXISTS, "it is there already", "remove it, or use `--out`")


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
        generator=SIGNATURE,
    )


def environment() -> Environment:
    """The templates of the page, with what they call."""
    made = Environment(
        loader=PackageLoader("pipeline.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    made.filters |= {"number": number, "share": share, "spark": _spark, "mean": _mean, "md": markdown}
    made.globals |= {"area": area, "outline": outline, "CHART": CHART, "NO_SPLIT": NO_SPLIT}
    return made


def _shown(value: Any) -> Any:
    """Every text that the page shows, without what could turn the direction of writing."""
    return printable(value, keep="\n") if type(value) is str else value


def markdown(text: str) -> str:
    """A text in one line, in which nothing has a meaning to Markdown or HTML."""
    plain = html.escape(" ".join(printable(str(text)).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", plain)


def policy(script: str) -> str:
    """The content security policy of a page whose only script is this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Styles stand in the page, some of them computed: where a picture lies in its strip.
    allowed = f"img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"default-src 'none'; base-uri 'none'; form-action 'none'; {allowed}"


# --- numbers as text ----------------------------------------------------------------------------


def number(value: float | None) -> str:
    """A number with at most four digits that matter, such as -1024, 0.625 or 12.5."""
    if value is None:
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"
    return text.replace(",", "\u202f").replace("-", "−")


def share(count: int, total: int) -> str:
    """A part of a whole, such as 12.5 %."""
    return f"{100 * count / total:.1f} %" if total else "–"


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
