"""`viptt doctor`: true figures, remedies for what is missing, and never a failure."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import main
from pipeline.doctor import disks, examine, findings_json, machine, software
from pipeline.doctor.findings import Entry, Missing, Topic, findings_text

ROOT = Path(__file__).resolve().parents[2]
NO_FRAMEWORK = "raise ImportError('no TensorFlow here')"
BLIND_FRAMEWORK = """print('a library says hello'); print('{"version": "9.9", "cuda": false, "gpus": []}')"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow, which takes seconds to start, is asked in one test only."""
    monkeypatch.setattr(software, "ASK_FRAMEWORK", BLIND_FRAMEWORK)
    monkeypatch.setattr(software.importlib.util, "find_spec", lambda name: object())


def doctor(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["doctor", *map(str, arguments)])
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_without_a_catalog_it_fits_a_terminal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = doctor()
    assert max(map(len, said.splitlines())) <= 80
    assert "viptt init FOLDER" in " ".join(said.split())


def test_the_document_holds_what_others_measure(tmp_path, ct_dataset):
    catalog = ct_dataset(tmp_path)
    found = json.loads(doctor("--json", "--catalog", catalog))
    assert found["software"]["libraries"]["numpy"] == version("numpy")
    assert found["machine"]["processor"]["cores"] == os.cpu_count()
    (disk,) = [value for name, value in found["disks"].items() if name == "disk_1"]
    assert disk["folder"] == str(tmp_path)
    assert disk["free"] == pytest.approx(shutil.disk_usage(tmp_path).free, abs=1 << 30)
    assert 1e6 < disk["written_per_second"] < 1e12
    assert not list(tmp_path.glob(".viptt*"))


def test_the_packages_are_those_of_the_project(monkeypatch):
    """Requirements as an installation lists them: an extra's with a marker, one extra within another."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    marked = [f'{text}; extra == "{extra}"' for extra, texts in extras.items() for text in texts]
    monkeypatch.setattr(software, "requires", lambda name: [*project["dependencies"], *marked])
    wanted = {"": project["dependencies"], "train": extras["train"], "onnx": extras["onnx"]}
    assert software.required() == {
        extra: [text.split(">")[0] for text in texts] for extra, texts in wanted.items()
    }


def test_a_missing_extra_is_told_with_its_remedy(monkeypatch):
    monkeypatch.setattr(software, "installed", lambda name: None if name == "keras" else "1")
    (missing,) = software.examine_software().missing
    assert missing.what.endswith("predict and export need keras")
    assert "pip install '.[train]'" in missing.remedy


def test_a_catalog_with_faults_is_no_failure(tmp_path):
    catalog = tmp_path / "data_catalog.yaml"
    catalog.write_text("version: 1\ndatasets: {ct: {type: nifty}}\n")
    (missing,) = json.loads(doctor("--json", "--catalog", catalog))["missing"]
    assert str(catalog) in missing["what"]


@pytest.mark.slow
def test_the_framework_is_asked_from_outside(tmp_path):
    code = "import sys; from pipeline.doctor import examine; from pathlib import Path; "
    code += f"examine(Path({str(tmp_path / 'none.yaml')!r})); "
    code += "sys.exit(bool({'tensorflow', 'keras'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_library_that_is_broken_stops_nothing(tmp_path):
    """As where its shared libraries are missing."""
    (tmp_path / "av").mkdir()
    (tmp_path / "av/__init__.py").write_text("raise ImportError('libavcodec.so.61: no such file')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    code = f"from pipeline.doctor import software; software.ASK_FRAMEWORK = {BLIND_FRAMEWORK!r}; "
    code += "from cli import main; main(['doctor', '--json'])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert "libavcodec.so.61" in found["codecs"]["failed"]
    assert found["software"]["python"] == sys.version.split()[0]
    assert any("libavcodec.so.61" in item["what"] for item in found["missing"])


def test_a_gpu_that_the_framework_does_not_see(monkeypatch):
    assert software.examine_framework(gpus=False).missing == ()
    (missing,) = software.examine_framework(gpus=True).missing
    assert "and-cuda" in missing.remedy
    monkeypatch.setattr(software, "ASK_FRAMEWORK", NO_FRAMEWORK)
    (missing,) = software.examine_framework(gpus=False).missing
    assert "cannot be imported" in missing.what


def test_what_the_driver_knows_is_told(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771 MiB, 570.1'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = findings_json(examine(tmp_path / "none.yaml"))
    assert found["machine"]["gpu"] == ["NVIDIA H200, 143771 MiB, 570.1"]
    assert any("does not see the GPU" in item["what"] for item in found["missing"])


def test_few_open_files_are_too_few(monkeypatch):
    monkeypatch.setattr(machine.resource, "getrlimit", lambda which: (256, 4096))
    assert [item.what for item in machine.examine_limits().missing] == ["a limit of 256 open files is low"]


def test_a_disk_that_cannot_be_written(tmp_path, ct_dataset, monkeypatch):
    def refuse(**options: object) -> None:
        raise PermissionError

    monkeypatch.setattr(disks.tempfile, "TemporaryFile", refuse)
    (missing,) = disks.examine_disks(ct_dataset(tmp_path)).missing
    assert missing.what == f"{tmp_path} cannot be written"


def test_two_stores_on_one_disk_are_measured_once(tmp_path, ct_dataset, video_dataset):
    ct_dataset(tmp_path)
    assert len(disks.examine_disks(video_dataset(tmp_path)).entries) == 1


def test_long_words_are_broken_at_80_columns():
    topic = Topic("disks", (Entry("disk 1", None, "/" + "x" * 200),), (Missing("a " * 60, "b"),))
    assert max(map(len, findings_text([topic]).splitlines())) <= 80
