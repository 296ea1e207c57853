"""The command line as a user meets it: exit codes, what goes where, and one line for each error."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import main
from pipeline import __version__

ERROR_LINE = r"[^\n]+: [a-z0-9-]+: [^\n]+ → [^\n]+"


def viptt(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def ct(tmp_path, ct_dataset) -> Path:
    return ct_dataset(tmp_path, scans=6)


def build(catalog: Path, *options: object) -> Result:
    return viptt("build", "--scheduler", "sync", "--catalog", catalog, *options)


# --- the commands -------------------------------------------------------------------------------


def test_version_and_help():
    assert viptt("--version").stdout == f"viptt, version {__version__}\n"
    assert "Usage: viptt" in viptt("-h").stdout
    for name in main.commands:
        assert viptt(name, "-h").exit_code == 0


def test_check_reports_and_builds_nothing(ct):
    result = viptt("check", "--catalog", ct)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "ct: 6 samples in 6 groups" in result.stdout
    assert not (ct.parent / "cache").exists()


def test_check_json_is_one_document(ct):
    document = json.loads(viptt("check", "--json", "--catalog", ct).stdout)
    (dataset,) = document["datasets"]
    assert dataset["classes"] == {"Infiltrative": 3, "Focal": 3}
    assert dataset["largest"] == [7, 18, 20]


def test_check_finds_what_build_would_quarantine(ct):
    (ct.parent / "ct/TRN_0001.nii.gz").write_bytes(b"")
    result = viptt("check", "--catalog", ct)
    assert result.exit_code == 3
    assert "TRN_0001.nii.gz: empty-file:" in result.stderr


def test_deep_check_reads_every_byte(ct):
    source = ct.parent / "ct/TRN_0001.nii.gz"
    source.write_bytes(source.read_bytes()[:-8])
    assert viptt("check", "--catalog", ct).exit_code == 0
    assert viptt("check", "--deep", "--catalog", ct).exit_code == 3


def test_build_then_nothing_to_do(ct):
    assert build(ct).exit_code == 0
    result = build(ct)
    assert result.exit_code == 0
    assert "nothing to do, 6 samples are up to date" in result.stderr
    assert result.stdout == ""


def test_build_json(ct):
    (dataset,) = json.loads(build(ct, "--json").stdout)["datasets"]
    assert (dataset["samples"], dataset["converted"], dataset["published"]) == (6, 6, True)


def test_dry_run_writes_nothing(ct):
    result = build(ct, "--dry-run")
    assert result.exit_code == 0
    assert "6 sources" in result.stderr
    assert not (ct.parent / "cache").exists()


def test_quiet_says_nothing(ct):
    result = build(ct, "-q")
    assert (result.exit_code, result.output) == (0, "")


def test_options_stand_before_or_after_the_command(ct):
    assert viptt("--catalog", ct, "-q", "check").exit_code == 0
    assert viptt("check", "-q", "--catalog", ct).exit_code == 0


def test_catalog_from_the_environment(ct, monkeypatch):
    monkeypatch.setenv("VIPTT_CATALOG", str(ct))
    assert viptt("check").exit_code == 0


# --- exit codes ---------------------------------------------------------------------------------


def test_quarantine_is_exit_3(ct):
    (ct.parent / "ct/TRN_0001.nii.gz").write_bytes(b"nothing of the kind")
    result = build(ct)
    assert result.exit_code == 3
    assert "TRN_0001.nii.gz: not-nifti:" in result.stderr
    assert (ct.parent / "cache/ct.quarantine.csv").exists()


def test_strict_publishes_nothing(ct):
    (ct.parent / "ct/TRN_0001.nii.gz").write_bytes(b"nothing of the kind")
    result = build(ct, "--strict")
    assert result.exit_code == 3
    assert "too-many-bad" in result.stderr
    assert not (ct.parent / "cache/ct.zarr").exists()


def test_missing_files_and_labels_are_listed(ct):
    (ct.parent / "ct/TRN_0001.nii.gz").rename(ct.parent / "ct/OTHER.nii.gz")
    result = build(ct)
    assert result.exit_code == 2
    assert "no-file" in result.stderr
    assert "no-label" in result.stderr
    assert build(ct, "--allow-missing").exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["build", "--wokers", "2"], "--workers"),
        (["nonsense"], "nonsense"),
        (["build", "--workers", "0"], "workers"),
        (["build", "--max-bad", "2"], "max-bad"),
        (["build", "--scheduler", "cloud"], "cloud"),
        (["check", "--catalog", "nowhere.yaml"], "nowhere.yaml: no-catalog"),
    ],
)
def test_usage_is_exit_2_in_one_line(arguments, told, ct):
    catalog = [] if "--catalog" in arguments else ["--catalog", str(ct)]
    result = viptt(*arguments, *catalog)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_unknown_dataset_suggests_the_right_one(ct):
    result = viptt("check", "ctt", "--catalog", ct)
    assert result.exit_code == 2
    assert "ctt: unknown-dataset: " in result.stderr
    assert "did you mean `ct`?" in result.stderr


def test_a_folder_of_somebody_else_is_exit_2(ct):
    (ct.parent / "cache/ct.zarr").mkdir(parents=True)
    (ct.parent / "cache/ct.zarr/thesis.docx").write_text("years of work")
    result = build(ct)
    assert result.exit_code == 2
    assert "not-ours" in result.stderr


# --- as a process -------------------------------------------------------------------------------


def run_process(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_check_and_build_never_import_tensorflow(ct):
    code = (
        "import sys, cli\n"
        "for command in (['check'], ['build', '--scheduler', 'sync']):\n"
        "    try: cli.main([*command, '--catalog', sys.argv[1], '-q'])\n"
        "    except SystemExit as end: assert not end.code, end\n"
        "sys.exit(bool({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    assert run_process(code, ct).returncode == 0


def test_installed_command_runs(ct):
    command = shutil.which("viptt", path=Path(sys.executable).parent)
    assert command, "viptt is not installed beside this Python"
    process = subprocess.run([command, "check", "--catalog", ct], capture_output=True, text=True, check=False)
    assert process.returncode == 0
    assert "ct: 6 samples" in process.stdout


def test_closed_stdout_ends_quietly(ct):
    read, write = os.pipe()
    os.close(read)
    code = "import sys, cli; cli.main(['check', '--json', '--catalog', sys.argv[1]])"
    process = subprocess.run(
        [sys.executable, "-c", code, ct], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert "Traceback" not in process.stderr
