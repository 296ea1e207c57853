"""The main job on generated data, short: pretrain on clips, then every strategy on scans, side by side."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import main
from model.settings import STRATEGIES
from pipeline.demo import write_demo

SHORT = (
    "--model",
    "viptt-net-small",
    "--optimizer",
    "adam",
    "--learning-rate",
    "0.0005",
    "--batch-size",
    "4",
)


@pytest.mark.slow
def test_the_demo_learns_and_names_its_pictures(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["demo", str(tmp_path / "demo")])

    assert result.exit_code == 0, result.stderr
    scores = json.loads((tmp_path / "demo/runs/ct/metrics.json").read_text())["scores"]
    assert scores["samples"] >= 20
    assert scores["kappa"] >= 0.8
    opened = [Path(line.strip()) for line in result.stderr.split("pictures to open:\n")[1].splitlines()]
    assert [(path.parent.name, path.name) for path in opened] == [
        *(("cache", f"demo_{name}.report.html") for name in ("clips", "ct")),
        *((run, name) for name in ("curves.png", "confusion.png") for run in ("clips", "ct")),
    ]
    assert all(path.is_file() for path in opened)


@pytest.mark.slow
def test_the_four_strategies_run_on_the_demo_and_are_compared(tmp_path: Path) -> None:
    catalog = write_demo(tmp_path / "demo", scans=40, groups=5)

    def viptt(*arguments: object) -> str:
        given = [str(argument) for argument in (*arguments, "--catalog", catalog)]
        result = CliRunner().invoke(main, given)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    viptt("build", "--scheduler", "sync")
    viptt("split")
    clips, runs = tmp_path / "clips", [tmp_path / name for name in STRATEGIES]
    viptt("train", "demo_clips", *SHORT, "--no-freeze", "--epochs", "3", "--run", clips)
    for (name, strategy), run in zip(STRATEGIES.items(), runs, strict=True):
        start = ("--init", clips) if strategy.pretrained else ()
        viptt("train", "demo_ct", *SHORT, "--strategy", name, *start, "--epochs", "3", "--run", run)
        viptt("evaluate", run)
    rows = [line.split() for line in viptt("compare", *runs).splitlines()]
    for name, run, row in zip(STRATEGIES, runs, rows[1:], strict=False):
        scores = json.loads((run / "metrics.json").read_text())["scores"]
        found = [name, "viptt-net-small", name, "val", str(scores["samples"]), f"{scores['kappa']:.2f}"]
        assert row[:6] == found  # the folder of each run has the name of its strategy
    assert rows[len(runs) + 1][:3] == ["paper,", "Table", "1"]
