"""The commands that the demo runs, as a user would type them, and what it ends with: pages and pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.demo.catalog import GROUPS, SCANS, write_demo

Viptt = Callable[[Sequence[str]], int]
Say = Callable[[str], None]

_PREPARE = (("check",), ("build",), ("split",), ("verify",))
# From random weights, the paper's SGD needs more epochs than a demo has. In the first epochs the loss of the
# scans may stand still: the patience is for neither the learning rate nor the training to give up on it.
_TRAINING = (
    *("--model", "viptt-net-small", "--weights", "none", "--optimizer", "adam", "--learning-rate", "0.0005"),
    *("--batch-size", "4", "--plateau-patience", "24", "--stop-patience", "24"),
)
_REPORTS = (("report", "demo_clips"), ("report", "demo_ct"))
_PICTURES = ("cache/*.report.html", "runs/*/curves.png", "runs/*/confusion.png")


def run_demo(
    folder: Path,
    viptt: Viptt,
    say: Say,
    *,
    seed: int = 0,
    scans: int = SCANS,
    groups: int = GROUPS,
    training: bool = True,
) -> int:
    """Write the demo's sources into `folder`, which must be new or empty, and run the chain on them.

    `viptt` runs one command, given as its arguments, and returns its exit code; `say` gets messages. `seed`
    decides the sources and the networks' first weights. `scans` and `groups` are as in `write_demo`. Without
    `training` nothing is learned, and TensorFlow is not needed.

    Returns the exit code of the first command that fails, else 0. Raises ConfigError if `folder` is not
    empty, ResourceError if a clip cannot be written.
    """
    say(f"writing generated scans and clips into {folder}")
    catalog = write_demo(folder, seed=seed, scans=scans, groups=groups)
    for command in (*_PREPARE, *(_learn(folder, seed) if training else ()), *_REPORTS):
        say(f"\n$ viptt {' '.join(command)}")
        code = viptt((*command, "--catalog", str(catalog)))
        if code:
            return code
    _say_pictures(folder, say)
    return 0


def _learn(folder: Path, seed: int) -> tuple[tuple[str, ...], ...]:
    """Train on the clips, then on the scans from what the clips taught; evaluate both."""
    clips, scans = str(folder / "runs/clips"), str(folder / "runs/ct")
    given = (*_TRAINING, "--seed", str(seed))
    tuned = ("--strategy", "pt+cw+aug", "--init", clips)
    return (
        ("train", "demo_clips", *given, "--no-freeze", "--epochs", "6", "--run", clips),
        ("evaluate", clips),
        ("train", "demo_ct", *given, *tuned, "--epochs", "24", "--run", scans),
        ("evaluate", scans),
    )


def _say_pictures(folder: Path, say: Say) -> None:
    found = [path for names in _PICTURES for path in sorted(folder.glob(names))]
    if found:
        say("\n".join(["", "pages and pictures to open:", *(f"  {path}" for path in found)]))
