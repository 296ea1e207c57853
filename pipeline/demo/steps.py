"""The commands that the demo runs, as a user would type them, and what it ends with: pages and pictures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.demo.catalog import write_demo, write_slices_demo, write_ultrasound_demo

Viptt = Callable[[Sequence[str]], int]
Say = Callable[[str], None]
Command = tuple[str, ...]

_PREPARE = (("check",), ("build",), ("split",), ("verify",))
# From random weights, the paper's SGD needs more epochs than a demo has. In the first epochs the loss of the
# scans may stand still: the patience is for neither the learning rate nor the training to give up on it.
_TRAINING = (
    *("--model", "viptt-net-small", "--weights", "none", "--optimizer", "adam", "--learning-rate", "0.0005"),
    *("--batch-size", "4", "--plateau-patience", "24", "--stop-patience", "24"),
)
_PICTURES = (
    "cache/*.report.html",
    "runs/*/report.html",
    "runs/*.runs.html",
    "runs/*/curves.png",
    "runs/*/confusion.png",
    "timelines/*.png",
)
_NETWORKS = ("2d", "3d", "2+1d")


@dataclass(frozen=True)
class Kind:
    """A kind of demo: what its sources are, what writes them, and what is learned from them.

    ``write`` takes the folder, the seed and the numbers of what it writes, and returns the catalog's path;
    ``learn`` takes the folder and the seed.
    """

    sources: str
    datasets: tuple[str, ...]
    write: Callable[..., Path]
    learn: Callable[[Path, int], Iterator[Command]]


def run_demo(
    folder: Path,
    viptt: Viptt,
    say: Say,
    *,
    kind: str = "ct",
    seed: int = 0,
    training: bool = True,
    **numbers: int,
) -> int:
    """Write a demo's sources into `folder`, which must be new or empty, and run the chain on them.

    `viptt` runs one command, given as its arguments, and returns its exit code; `say` gets messages. `kind`
    is one of `KINDS`, `numbers` go to what writes it. `seed` decides the sources and the networks' first
    weights. Without `training` nothing is learned, and TensorFlow is not needed.

    Returns the exit code of the first command that fails, else 0. Raises ConfigError if `folder` is not
    empty, ResourceError if a source cannot be written.
    """
    made = KINDS[kind]
    say(f"writing generated {made.sources} into {folder}")
    catalog = made.write(folder, seed=seed, **numbers)
    reports = [("report", name) for name in made.datasets]
    for command in (*_PREPARE, *(made.learn(folder, seed) if training else ()), *reports):
        say(f"\n$ viptt {' '.join(command)}")
        code = viptt((*command, "--catalog", str(catalog)))
        if code:
            return code
    _say_pictures(folder, say)
    return 0


def _learn_ct(folder: Path, seed: int) -> Iterator[Command]:
    """Train on the clips, then on the scans from what the clips taught; evaluate both."""
    clips, scans = str(folder / "runs/clips"), str(folder / "runs/ct")
    given = (*_TRAINING, "--seed", str(seed))
    tuned = ("--strategy", "pt+cw+aug", "--init", clips)
    yield ("train", "demo_clips", *given, "--no-freeze", "--epochs", "6", "--run", clips)
    yield ("evaluate", clips)
    yield ("report", clips)
    yield ("train", "demo_ct", *given, *tuned, "--epochs", "24", "--run", scans)
    yield ("evaluate", scans)
    yield ("report", scans)


def _learn_ultrasound(folder: Path, seed: int) -> Iterator[Command]:
    """Train on single frames and, twice, on windows; evaluate all, and compare them on the same frames."""
    for name in _NETWORKS:
        yield from _learn_by_file(folder, "demo_ultrasound", name, seed)
    runs = [str(folder / "runs" / name) for name in _NETWORKS]
    yield ("compare", *runs, "--timelines", str(folder / "timelines"))
    yield ("report", *runs)


def _learn_slices(folder: Path, seed: int) -> Iterator[Command]:
    yield from _learn_by_file(folder, "demo_slices", "slices", seed)
    yield ("report", str(folder / "runs/slices"))


def _learn_by_file(folder: Path, dataset: str, name: str, seed: int) -> Iterator[Command]:
    """Train and evaluate with the settings of a file."""
    run, settings = str(folder / "runs" / name), str(folder / "settings" / f"{name}.yaml")
    yield ("train", dataset, "--config", settings, "--seed", str(seed), "--run", run)
    yield ("evaluate", run, "--batch-size", "32")


KINDS = {
    "ct": Kind("scans and clips", ("demo_clips", "demo_ct"), write_demo, _learn_ct),
    "ultrasound": Kind("ultrasound videos", ("demo_ultrasound",), write_ultrasound_demo, _learn_ultrasound),
    "slices": Kind("CT slices", ("demo_slices",), write_slices_demo, _learn_slices),
}


def _say_pictures(folder: Path, say: Say) -> None:
    found = [path for names in _PICTURES for path in sorted(folder.glob(names))]
    if found:
        say("\n".join(["", "pages and pictures to open:", *(f"  {path}" for path in found)]))
