"""Real ultrasound clips through the whole chain: build, split, train in 2-D, 3-D and (2+1)-D, predict."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from cli import main

WINDOW = {"length": 5, "stride": 20, "labels": "same"}
NETWORKS: dict[str, dict[str, object]] = {
    "sononet-2d": {"frames": "selected"},
    "sononet-3d": {"window": WINDOW},
    "sononet-2+1d": {"window": WINDOW},
}
QUICK = ("--scheduler", "sync", "--batch-size", 32)
CLASSES = ("Cov", "Pneu", "Reg", "Vir")  # the names of the files begin with them
# Of 24 and of 41 frames, as ffprobe counts them.
NEW = {"convex__Reg_liftl_pneucase3_clip1": 24, "convex__Pneu_liftl_pneu_case3_clip4": 41}


def viptt(*arguments: object) -> str:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 0, result.stderr
    return result.stdout


def write_catalog(folder: Path, clips: Path) -> Path:
    entry = {
        "type": "video",
        "sample": "picture",
        "path": str(clips),
        "labels": {"regex": r"(?:convex|linear)__(?P<label>[A-Z][a-z]+)"},
        "classes": list(CLASSES),
        "recipe": {"shape": [1, 32, 32], "resize": "antialias", "normalise": "max", "select": "ssim"},
        "store": "lungs.zarr",
        "split": {"file": "lungs.json", "fractions": {"train": 0.7, "val": 0.3}, "seed": 0},
    }
    path = folder / "data_catalog.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "datasets": {"lungs": entry}}))
    return path


def rows_of(text: str) -> dict[str, list[float]]:
    """The probabilities of each id."""
    rows = csv.DictReader(text.splitlines())
    return {row["id"]: [float(row[name]) for name in CLASSES] for row in rows}


@pytest.mark.slow
def test_real_clips_are_trained_on_by_each_network_and_predicted(shared: Path, tmp_path: Path) -> None:
    clips = shared / "ultrasound"
    catalog = write_catalog(tmp_path, clips)
    viptt("build", "--catalog", catalog, "--scheduler", "threads")
    viptt("split", "--catalog", catalog)
    for name, settings in NETWORKS.items():
        run, pictures = tmp_path / name, tmp_path / f"{name}-pictures"
        (tmp_path / "settings.yaml").write_text(yaml.safe_dump({"model": name, "width": 16, **settings}))
        given = ("--config", tmp_path / "settings.yaml", "--epochs", 1, "--batch-size", 16)
        viptt("train", "lungs", *given, "--run", run, "--catalog", catalog)
        files = [clips / f"{clip}.mp4" for clip in NEW]
        table = viptt("predict", run, *files, "--timelines", pictures, *QUICK)
        found, stored = rows_of(table), rows_of(viptt("predict", run, "lungs", *QUICK, "--catalog", catalog))
        first = settings.get("window", {"length": 1})["length"] - 1
        expected = [f"{clip}/{number}" for clip, count in NEW.items() for number in range(first, count)]
        assert list(found) == expected
        np.testing.assert_allclose(
            [found[sample] for sample in expected], [stored[sample] for sample in expected], atol=1e-4
        )
        assert {path.name for path in pictures.iterdir()} == {
            f"{clip}.{suffix}" for clip in NEW for suffix in ("png", "svg")
        }
