"""One HTML page about a run, or about several side by side, complete in itself; and model cards.

A card is Markdown with the front matter that Hugging Face reads
(https://huggingface.co/docs/hub/model-cards, "Model card metadata"). It holds what the run knows, and marks
what people have to fill in. Needs neither TensorFlow nor matplotlib.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from model.depth_axis import FRAMES
from model.run_facts import OF_CLASSES, WHOLE, RunFacts, read_facts
from model.run_folder import CONFIG as CONFIG
from pipeline.errors import Code, ConfigError
from pipeline.pages import Environment, environment, policy, require_new, require_own
from pipeline.store import write_durably

PAGE, CARD = "report.html", "README.md"


def write_run_page(folders: Sequence[Path], out: Path | None, *, cards: bool) -> tuple[Path, ...]:
    """Write the page about runs; returns what was written. With ``cards`` also a model card into each run.

    One run's page lies in its folder, that of several beside the first. Cards are filled in by people, so
    they are never replaced.

    Raises ConfigError if a folder holds no run, if a file that is no such page is in the place of the page,
    or any file in that of a card, IntegrityError if a file of a run or a volume that is shown is damaged,
    ResourceError if one cannot be written.
    """
    page = out or _place(folders)
    require_own(page)
    places = [folder / CARD for folder in folders] if cards else []
    for path in places:
        require_new(path)
    runs = [
        read_facts(folder, name=name, of=len(folders))
        for folder, name in zip(folders, _names(folders), strict=True)
    ]
    texts = {page: render(runs), **{path: card(run) for path, run in zip(places, runs, strict=False)}}
    for path, text in texts.items():
        write_durably(path, text.encode("utf-8", "surrogateescape"))
    return tuple(texts)


def _place(folders: Sequence[Path]) -> Path:
    if len(folders) == 1:
        return folders[0] / PAGE
    first, others = folders[0].resolve(), len(folders) - 1
    second = folders[1].resolve().name if others == 1 else f"{others}-others"
    return folders[0].parent / f"{first.name}.{second}.runs.html"


def _names(folders: Sequence[Path]) -> list[str]:
    """The names of folders; the paths of those whose names are equal."""
    names = [folder.resolve().name for folder in folders]
    if len(set(folders)) < len(folders):
        raise ConfigError.of("viptt report", Code.BAD_OPTION, "a run is named twice", "name each once")
    return [
        str(folder) if names.count(name) > 1 else name for folder, name in zip(folders, names, strict=True)
    ]


def render(runs: Sequence[RunFacts]) -> str:
    """The HTML text of the page."""
    templates = _templates()
    script = templates.get_template("slider.js").render()
    return templates.get_template("run.html").render(
        runs=runs,
        words=["frame" if run.config.data.type in FRAMES else "slice" for run in runs],
        verdict=_verdict(runs),
        script=Markup(script),
        policy=policy(script),
    )


def _verdict(runs: Sequence[RunFacts]) -> str:
    """What a paired test says of two runs that were evaluated on the same samples, or why there is none."""
    if len(runs) != 2 or not all(run.evaluated for run in runs):
        return ""
    from model.compare import compare
    from model.compare_text import pair_text

    found = compare([run.folder for run in runs])
    if found.apart:
        return "The runs have different classes: their scores cannot be compared."
    if found.pair is None:
        return f"No paired test of the two runs: {found.unpaired}."
    return pair_text(found.pair, *(run.name for run in runs))


def card(run: RunFacts) -> str:
    """The text of a run's model card."""
    kind = "video-classification" if run.config.data.type in FRAMES else "image-classification"
    return _templates().get_template("run_card.md").render(run=run, task=kind)


def _templates() -> Environment:
    made = environment("model")
    made.globals |= {"OF_CLASSES": OF_CLASSES, "WHOLE": WHOLE}
    made.filters |= {"score": _score, "plain": _plain}
    return made


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _plain(value: Any) -> str:
    """A setting as one line of text."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
