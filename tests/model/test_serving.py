"""Exported models behind HTTP, in processes without this project, called as the page on serving says.

The servers are small ones of the tests, `rest_server.py` and `triton_stub.py`: neither TensorFlow Serving nor
Triton can be had from a package index.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import requests
from numpy.typing import NDArray
from served_runs import CLASSES, MODULE, call, export, write_run

from pipeline.recipe import CtRecipe, SlicesRecipe

HERE = Path(__file__).parent
FENCE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGE = (HERE.parents[1] / "docs/serving.md").read_text("utf-8")
SCANS, SLICES = (
    json.loads(json.dumps(recipe.as_json()))
    for recipe in (CtRecipe(shape=(6, 32, 40)), SlicesRecipe(shape=(1, 32, 40), crop="box", dtype="float32"))
)
BOX = [3, 2, 40, 31]


def snippet(url: str) -> str:
    """The program of the page that posts to this address."""
    (found,) = [code for code in FENCE.findall(PAGE) if url in code]
    return found


@contextmanager
def serving(script: str, *arguments: str, log: Path) -> Iterator[str]:
    """The address of a server that runs in a process of its own while the block does."""
    command = [sys.executable, "-I", str(HERE / script), *arguments]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port, log.read_text()[-2000:]
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def picture(height: int = 40, width: int = 50) -> NDArray[np.uint8]:
    return np.random.default_rng(height).integers(0, 256, (height, width), np.uint8)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on slices that were cut to boxes."""
    (tmp_path / "serving_nets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return write_run(tmp_path / "run", SLICES, gain=30, model="serving_nets:net")


@pytest.mark.slow
def test_tensorflow_servings_rest_form(
    run: Path,
    write_nifti: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    slices = export(run, "savedmodel", out=tmp_path / "covidx/1")
    scans = write_run(tmp_path / "scans", SCANS, gain=30, model="viptt-net-small")
    volumes = export(scans, "savedmodel", out=tmp_path / "viptt/1")
    scan = np.random.default_rng(1).integers(-900, 300, (9, 24, 30)).astype(np.float32)  # whole, as in files
    write_nifti(tmp_path / "scan.nii.gz", scan.transpose(2, 1, 0), dtype="int16")
    models = [f"{name}={tmp_path / name}" for name in ("covidx", "viptt")]
    with serving("rest_server.py", *models, log=tmp_path / "log") as server:
        url = f"{server}/v1/models/covidx"
        (version,) = requests.get(url, timeout=60).json()["model_version_status"]
        assert (version["version"], version["state"]) == ("1", "AVAILABLE")

        inputs = {"picture": picture().tolist(), "box": BOX}
        found = requests.post(f"{url}:predict", json={"inputs": inputs}, timeout=60).json()["outputs"]
        expected = call(slices, picture=picture().astype(np.float32), box=np.array(BOX, np.int32))
        assert 0.34 < expected.max() < 0.999
        assert found["classes"] == list(CLASSES)
        np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)

        # A model without a batch axis: its only input, row by row, and its outputs, class by class.
        rows = {"signature_name": "serving_default", "instances": scan.tolist()}
        answer = requests.post(f"{server}/v1/models/viptt/versions/1:predict", json=rows, timeout=60).json()
        expected = call(volumes, volume=scan)
        assert [row["classes"] for row in answer["predictions"]] == list(CLASSES)
        np.testing.assert_allclose(
            [row["probabilities"] for row in answer["predictions"]], expected, atol=1e-6
        )

        check_refusals(url, inputs)
        monkeypatch.chdir(tmp_path)
        exec(snippet(":8501").replace("http://localhost:8501", server), {})
        said = ast.literal_eval(capsys.readouterr().out.splitlines()[-1])
        assert list(said) == list(CLASSES)
        np.testing.assert_allclose(list(said.values()), expected, atol=1e-6)


def check_refusals(url: str, inputs: dict[str, Any]) -> None:
    """What the model and the form refuse is told with an HTTP status of errors."""
    for asked, body, status, told in (
        (url, {"inputs": {**inputs, "box": [0, 0, 51, 40]}}, 400, "the box is empty or reaches out"),
        (url, {"inputs": {"picture": inputs["picture"]}}, 400, "box"),
        (url, {"instances": inputs["picture"]}, 400, "expecting list of objects"),
        (url, {"inputs": inputs, "signature_name": "other"}, 400, "not found in signature def"),
        (f"{url}/versions/2", {"inputs": inputs}, 404, "Servable not found"),
    ):
        answer = requests.post(f"{asked}:predict", json=body, timeout=60)
        assert answer.status_code == status
        assert told in answer.json()["error"]


def test_tritons_http_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "triton_nets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    whole = {**SLICES, "crop": [25, 31]}
    run = write_run(tmp_path / "run", whole, gain=30, model="triton_nets:net")
    model = export(run, "triton", out=tmp_path / "models/covidx")
    expected = call(model / "1", picture=picture().astype(np.float32))
    assert 0.34 < expected.max() < 0.999
    assert cv2.imwrite(str(tmp_path / "slice.png"), picture())
    with serving("triton_stub.py", str(tmp_path / "models"), log=tmp_path / "log") as server:
        assert requests.get(f"{server}/v2/models/covidx/ready", timeout=60).ok
        (given,) = requests.get(f"{server}/v2/models/covidx", timeout=60).json()["inputs"]
        assert given == {"name": "picture", "datatype": "FP32", "shape": [-1, -1]}
        monkeypatch.chdir(tmp_path)
        exec(snippet(":8000").replace("http://localhost:8000", server), {})
        said = ast.literal_eval(capsys.readouterr().out.splitlines()[-1])
        assert list(said) == list(CLASSES)
        np.testing.assert_allclose(list(said.values()), expected, atol=1e-6)
        wrong = {"name": "picture", "shape": [1, 40, 50], "datatype": "FP32", "data": picture().tolist()}
        answer = requests.post(f"{server}/v2/models/covidx/infer", json={"inputs": [wrong]}, timeout=60)
        assert answer.status_code == 400
        assert "unexpected shape" in answer.json()["error"]
