"""The main job on generated data, short: pretrain on clips, then every strategy on scans, side by side."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cli import main
from model.judged import Judged, read_table
from model.settings import STRATEGIES
from pipeline.demo import MOTION, write_demo
from pipeline.demo.ultrasound import PLANES
from pipeline.split import read_split

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
        *((run, name) for name in ("report.html", "curves.png", "confusion.png") for run in ("clips", "ct")),
    ]
    assert all(path.is_file() for path in opened)


@pytest.mark.slow
def test_windows_see_what_single_frames_cannot(tmp_path: Path) -> None:
    """The chain on generated ultrasound: on classes of motion, windows win by 0.2, on the same frames."""
    result = CliRunner().invoke(main, ["demo", str(tmp_path / "demo"), "--kind", "ultrasound"])

    assert result.exit_code == 0, result.stderr
    names = ("2d", "3d", "2+1d")
    tables = [read_table(tmp_path / "demo/runs" / name / "predictions.csv", PLANES) for name in names]
    shared = set.intersection(*(set(table.ids) for table in tables))
    single, windows, factored = (motion_accuracy(table.only(shared)) for table in tables)
    assert min(windows, factored) >= single + 0.2
    check_new_frames(tmp_path / "demo", tables[1])
    split = read_split(tmp_path / "demo/splits/demo_ultrasound.json")
    assert not any(split.leaked.values())
    assert "On the same" in result.stdout
    opened = [Path(line.strip()).name for line in result.stderr.split("pictures to open:\n")[1].splitlines()]
    assert opened[:2] == ["demo_ultrasound.report.html", "2d.2-others.runs.html"]
    assert [name for name in opened if name.startswith("timeline")] == [
        f"timeline_{number}.png" for number in (1, 2, 3)
    ]


def check_new_frames(demo: Path, evaluated: Judged) -> None:
    """A folder of frames, predicted as new, gets the classes that its pictures in the store got."""
    stack = evaluated.stacks[0]
    result = CliRunner().invoke(
        main, ["predict", str(demo / "runs/3d"), str(demo / "ultrasound/videos" / stack)]
    )
    assert result.exit_code == 0, result.stderr
    found = {row["id"]: row["predicted"] for row in csv.DictReader(result.stdout.splitlines())}
    expected = {
        sample: PLANES[label]
        for sample, label, place in zip(evaluated.ids, evaluated.predicted, evaluated.stacks, strict=True)
        if place == stack
    }
    assert found == expected


def motion_accuracy(table: Judged) -> float:
    """Accuracy on the frames whose class is told by motion alone."""
    moving = np.isin(table.truth, [PLANES.index(name) for name in MOTION])
    return float(np.mean((table.predicted == table.truth)[moving]))


@pytest.mark.slow
def test_the_demo_of_slices_learns(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["demo", str(tmp_path / "demo"), "--kind", "slices"])

    assert result.exit_code == 0, result.stderr
    scores = json.loads((tmp_path / "demo/runs/slices/metrics.json").read_text())["scores"]
    assert scores["accuracy"] >= 0.8


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
