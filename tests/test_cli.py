"""The command line as a user meets it: exit codes, what goes where, and one line for each error."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from cli import main
from pipeline import __version__, console

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
        (["build", "--max-bad", "nan"], "max-bad"),
        *((["build", "--timeout", value], "timeout") for value in ("nan", "inf", "0", "-1", "1e300", "x")),
        *(
            (["build", "--memory-limit", value], "memory-limit")
            for value in ("abc", "", "0", "-1GB", "nan", "4 XB")
        ),
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


ESC = "\x1b[2J"


def test_no_escape_sequence_reaches_the_terminal(ct):
    (ct.parent / f"ct/x{ESC}.nii.gz").touch()
    for arguments in (["check"], ["check", "--allow-missing"], ["check", f"a{ESC}"], ["check", f"--{ESC}"]):
        result = viptt(*arguments, "--catalog", ct)
        assert "\x1b" not in result.output
        assert r"\x1b[2J" in result.stderr
    result = viptt("check", "--json", "--allow-missing", "--catalog", ct)
    assert "\x1b" not in result.output
    json.loads(result.stdout)


@pytest.mark.parametrize("size", ["auto", "4GB", "500 MiB", "1.5g", "2000000000"])
def test_amounts_of_memory(ct, size):
    assert build(ct, "--dry-run", "--memory-limit", size).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "codes"),
    [
        (["check"], {"no-label"}),
        (["check", "other"], {"unknown-dataset"}),
        (["check", "--nonsense"], {"usage"}),
        (["--json", "nonsense"], {"usage"}),
        (["build", "--workers", "0"], {"usage"}),
    ],
)
def test_json_is_a_document_on_errors_too(ct, arguments, codes):
    (ct.parent / "ct/x.nii.gz").touch()
    result = viptt(*arguments, "--catalog", ct, "--json") if "--json" not in arguments else viptt(*arguments)
    assert result.exit_code == 2
    document = json.loads(result.stdout)
    assert {error["code"] for error in document["errors"]} == codes
    for error in document["errors"]:
        assert set(error) == {"where", "code", "reason", "remedy"}
        assert f"{error['where']}: {error['code']}: " in result.stderr


def test_json_prints_one_document_where_a_build_fails(ct):
    (ct.parent / "ct/TRN_0001.nii.gz").write_bytes(b"nothing of the kind")
    result = build(ct, "--strict", "--json")
    assert result.exit_code == 3
    assert [error["code"] for error in json.loads(result.stdout)["errors"]] == ["not-nifti", "too-many-bad"]


def test_unexpected_failures_are_a_document_too(ct, monkeypatch):
    monkeypatch.setattr("pipeline.catalog.load_catalog", lambda file: 1 / 0)
    result = viptt("check", "--json", "--catalog", ct)
    assert result.exit_code == 1
    assert [error["code"] for error in json.loads(result.stdout)["errors"]] == ["unexpected"]


def test_quiet_prints_no_tables(ct):
    for command in (["check"], ["build", "--scheduler", "sync"], ["status"], ["verify"], ["split"]):
        result = viptt(*command, "-q", "--catalog", ct)
        assert (result.exit_code, result.output) == (0, "")
    assert json.loads(viptt("check", "-q", "--json", "--catalog", ct).stdout)


def test_many_errors_of_a_kind_are_one_line(ct):
    for number in range(1000):
        (ct.parent / f"ct/extra_{number:03d}.nii.gz").touch()
    result = viptt("check", "--catalog", ct)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "extra_000.nii.gz: no-label: " in line
    assert "and 999 more like it: " in line
    assert viptt("check", "-v", "--catalog", ct).stderr.count("\n") == 1000
    assert len(json.loads(viptt("check", "--json", "--catalog", ct).stdout)["errors"]) == 1000


def test_a_few_errors_of_a_kind_are_told_one_by_one(ct):
    for number in range(5):
        (ct.parent / f"ct/extra_{number:03d}.nii.gz").touch()
    assert viptt("check", "--catalog", ct).stderr.count(": no-label: ") == 5


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


def test_a_folder_of_the_same_name_where_it_is_run_is_not_taken_for_viptt(ct, tmp_path):
    """Workers, too, import what is installed."""
    for name in ("pipeline", "numpy", "distributed"):
        (tmp_path / "here" / name).mkdir(parents=True)
        (tmp_path / "here" / name / "__init__.py").write_text("open('imported', 'w').close()")
    command = [Path(sys.executable).with_name("viptt"), "build", "--catalog", ct, "--workers", "1"]
    process = subprocess.run(
        command, cwd=tmp_path / "here", capture_output=True, text=True, check=False, timeout=60
    )
    assert process.returncode == 0, process.stderr
    assert not (tmp_path / "here/imported").exists()


def run_into(stdout: int, stderr: int, *arguments: object) -> tuple[int, str]:
    """Exit code and what a command says on the descriptor that is a pipe."""
    code = "import sys, cli; cli.main(sys.argv[1:])"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.run(command, stdout=stdout, stderr=stderr, text=True, check=False, timeout=60)
    return process.returncode, process.stdout or process.stderr or ""


def without_reader() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.slow
@pytest.mark.parametrize("broken", [full, without_reader])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_results_that_nobody_takes_are_exit_6(ct, broken, options):
    stdout = broken()
    code, said = run_into(stdout, subprocess.PIPE, "check", *options, "--catalog", ct)
    os.close(stdout)
    assert code == 6
    assert said.startswith("stdout: cannot-write: ")
    assert said.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("broken", [full, without_reader])
def test_messages_that_nobody_takes_stop_nothing(ct, broken):
    (ct.parent / "ct/TRN_0001.nii.gz").write_bytes(b"nothing of the kind")
    stderr = broken()
    arguments = ("build", "--scheduler", "sync", "--json", "--catalog", ct)
    code, said = run_into(subprocess.PIPE, stderr, *arguments)
    assert code == 3
    assert json.loads(said)["datasets"][0]["published"]
    code, said = run_into(subprocess.PIPE, stderr, "check", "no-such-dataset", "--json", "--catalog", ct)
    assert (code, json.loads(said)["errors"][0]["code"]) == (2, "unknown-dataset")
    os.close(stderr)


class GoneTerminal(io.StringIO):
    """A terminal that was closed while something ran on it."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


def test_progress_on_a_terminal_that_is_gone_stops_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", GoneTerminal())
    with click.Context(main).scope(), console.progress("ct", 3, "sources") as report:
        for _ in range(3):
            report(10)


def test_a_working_folder_that_is_gone_is_named(ct, tmp_path):
    code = (
        "import os, sys, cli\n"
        "os.mkdir(sys.argv[2]); os.chdir(sys.argv[2]); os.rmdir(sys.argv[2])\n"
        "cli.main(['check', '--catalog', sys.argv[1]])"
    )
    process = run_process(code, ct, tmp_path / "gone")
    assert process.returncode == 2
    assert process.stderr.startswith("working folder: no-folder: ")


# --- several at once, and signals ---------------------------------------------------------------

BUILD = "import sys, cli; cli.main(['build', '--scheduler', 'sync', *sys.argv[1:]])"


def start(catalog: Path, *options: str, code: str = BUILD) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, "--catalog", str(catalog), *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_work(catalog: Path, process: subprocess.Popen[str]) -> None:
    journal = catalog.parent / "cache/ct.zarr.building/journal"
    while process.poll() is None and not list(journal.glob("*.json")):
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 8])
def test_only_one_of_many_builds_works(tmp_path, ct_dataset, count):
    """The first is halted in the middle of its work, so that the others surely meet it."""
    catalog = ct_dataset(tmp_path, scans=10, size=(80, 80, 60))
    first = start(catalog)
    wait_for_work(catalog, first)
    first.send_signal(signal.SIGSTOP)
    others = [start(catalog) for _ in range(count - 1)]
    told = [process.communicate()[1] for process in others]
    first.send_signal(signal.SIGCONT)
    first.communicate()
    assert first.returncode == 0
    for process, text in zip(others, told, strict=True):
        assert process.returncode == 5
        assert f"another build holds it (process {first.pid} on " in text


def test_a_killed_holder_frees_the_store(tmp_path, ct_dataset):
    catalog = ct_dataset(tmp_path, scans=10, size=(80, 80, 60))
    first = start(catalog)
    wait_for_work(catalog, first)
    first.kill()
    first.communicate()
    assert build(catalog).exit_code == 0


@pytest.fixture(scope="module")
def written_once(tmp_path_factory, ct_dataset) -> Path:
    folder: Path = tmp_path_factory.mktemp("long")
    ct_dataset(folder, scans=40, size=(120, 120, 60))
    return folder


@pytest.fixture
def long(tmp_path, written_once) -> Path:
    """A catalog of sources that take so long that a build can be met in the middle."""
    shutil.copytree(written_once, tmp_path, dirs_exist_ok=True)
    (catalog,) = tmp_path.glob("*.yaml")
    return catalog


# To all processes is how a terminal sends it.
@pytest.mark.parametrize(
    ("scheduler", "send", "number"),
    [
        ("sync", os.kill, signal.SIGTERM),
        ("local", os.killpg, signal.SIGINT),
        pytest.param("sync", os.kill, signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("local", os.kill, signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("local", os.kill, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("local", os.killpg, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_signals_end_a_build_that_can_be_resumed(tmp_path, long, scheduler, send, number):
    process = start(long, "--scheduler", scheduler, "--workers", "1")
    wait_for_work(long, process)
    send(process.pid, number)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 128 + number, told
    assert "Traceback" not in told
    assert not (tmp_path / "cache/ct.zarr").exists()
    result = build(long)
    assert result.exit_code == 0
    assert "0 kept from before" not in result.stderr


@pytest.mark.parametrize(
    ("number", "delay"),
    [
        (signal.SIGINT, 0.2),
        *(pytest.param(signal.SIGINT, delay, marks=pytest.mark.slow) for delay in (0.0, 0.4, 0.6)),
        *(pytest.param(signal.SIGTERM, delay, marks=pytest.mark.slow) for delay in (0.0, 0.2, 0.4, 0.6)),
    ],
)
def test_signals_while_workers_start_make_no_noise(tmp_path, long, number, delay):
    process = start(long, "--scheduler", "local", "--workers", "2")
    marker = tmp_path / "cache/ct.zarr.building/viptt-staging.json"
    while process.poll() is None and not marker.exists():
        time.sleep(0.01)
    time.sleep(delay)
    os.killpg(process.pid, number)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "Traceback" not in told
    assert told.endswith("interrupted: run the same command again to go on\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_told_whatever_comes_of_it(monkeypatch, tmp_path, number, code):
    """A library that is interrupted while it holds a lock complains about its lock."""

    def interrupted(path):
        try:
            signal.raise_signal(number)
        finally:
            raise RuntimeError("cannot release un-acquired lock")

    monkeypatch.setattr("pipeline.catalog.load_catalog", interrupted)
    result = viptt("check", "--catalog", tmp_path / "catalog.yaml")
    assert result.exit_code == code
    assert result.stderr == "interrupted: run the same command again to go on\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_full_disk_is_exit_6_and_the_build_resumes(tmp_path, ct_dataset):
    catalog = ct_dataset(tmp_path, scans=6, recipe={"shape": [20, 100, 100]})
    cache = tmp_path / "cache"
    cache.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(cache)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        result = build(catalog)
        assert result.exit_code == 6
        assert "No space left on device" in result.stderr
        assert not (cache / "ct.zarr").exists()
        subprocess.run(["mount", "-o", "remount,size=50m", str(cache)], check=True)
        result = build(catalog)
        assert result.exit_code == 0
        assert "0 kept from before" not in result.stderr
    finally:
        subprocess.run(["umount", str(cache)], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_target_is_exit_6(ct):
    (ct.parent / "cache").mkdir(mode=0o500)
    assert build(ct).exit_code == 6


def test_verify_repair_brings_the_bytes_back(ct):
    build(ct)
    chunk = ct.parent / "cache/ct.zarr/volume/c.2.0.0.0"
    good = chunk.read_bytes()
    chunk.write_bytes(good[:100] + b"x" + good[101:])
    assert viptt("verify", "--catalog", ct).exit_code == 4
    result = viptt("verify", "--repair", "--catalog", ct)
    assert result.exit_code == 0
    assert chunk.read_bytes() == good


# --- split --------------------------------------------------------------------------------------


@pytest.fixture
def built(tmp_path, ct_dataset) -> Path:
    catalog = ct_dataset(tmp_path, scans=20, scans_per_patient=2)
    assert build(catalog, "-q").exit_code == 0
    return catalog


def split_file(catalog: Path) -> Path:
    return catalog.parent / "splits/ct.json"


def test_split_writes_the_contract(built):
    result = viptt("split", "--catalog", built)
    assert result.exit_code == 0
    document = json.loads(split_file(built).read_text())
    assert {"format", "dataset", "store_digest", "method", "seed", "fractions", "splits", "counts"} <= set(
        document
    )
    ids = [sample for part in document["splits"].values() for sample in part]
    assert sorted(ids) == [f"TRN_{number:04d}" for number in range(20)]
    assert document["counts"]["train"] == {"Infiltrative": 8, "Focal": 8}
    assert "samples" in result.stdout
    assert viptt("split", "--check", "--catalog", built).exit_code == 0


def test_split_twice_gives_the_same_bytes(built):
    viptt("split", "--catalog", built)
    first = split_file(built).read_bytes()
    viptt("split", "--catalog", built)
    assert split_file(built).read_bytes() == first


def test_split_needs_a_store(ct):
    result = viptt("split", "--catalog", ct)
    assert result.exit_code == 4
    assert "not-built" in result.stderr


DAMAGED = {
    "edited": lambda text: text.replace('"TRN_0000"', '"TRN_9999"'),
    "cut": lambda text: text[: len(text) // 2],
    "foreign": lambda text: '{"train": ["TRN_0000"]}',
    "key twice": lambda text: text.replace('"seed": 0,', '"seed": 0, "seed": 1,'),
    "other store": lambda text: text.replace("sha256:", "sha256:0", 1),
    "empty": lambda text: "",
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_damaged_split_file_is_exit_4_in_one_line(built, damage):
    viptt("split", "--catalog", built)
    split_file(built).write_text(damage(split_file(built).read_text()))
    result = viptt("split", "--check", "--catalog", built)
    assert result.exit_code == 4
    assert result.stderr.count("\n") == 1
    assert str(split_file(built)) in result.stderr


def test_split_of_an_older_store_is_exit_4_and_says_what_changed(built):
    viptt("split", "--catalog", built)
    labels = built.parent / "ct/labels.csv"
    labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:-1]))
    (built.parent / "ct/TRN_0019.nii.gz").unlink()
    build(built, "-q")
    result = viptt("split", "--check", "--catalog", built)
    assert result.exit_code == 4
    assert "TRN_0019" in result.stderr


def test_group_none_says_what_leaks(tmp_path, ct_dataset):
    catalog = ct_dataset(tmp_path, scans=20, scans_per_patient=2, split={"group": "none"})
    build(catalog, "-q")
    result = viptt("split", "--catalog", catalog)
    assert result.exit_code == 0
    assert "group-leak" in result.stderr
    assert viptt("split", "--check", "--catalog", catalog).exit_code == 4


def test_export_and_import_lose_nothing(built):
    viptt("split", "--catalog", built)
    parts = json.loads(split_file(built).read_text())["splits"]
    for form, name in (("nnunet", "splits_final.json"), ("csv", None)):
        out = built.parent / form
        assert viptt("split", "--export", form, "--out", out, "--catalog", built).exit_code == 0
        (exported,) = [path for path in out.iterdir() if name in (None, path.name)]
        split_file(built).unlink()
        assert viptt("split", "ct", "--import", exported, "--catalog", built).exit_code == 0
        assert json.loads(split_file(built).read_text())["splits"] == parts


def test_folds(built):
    assert viptt("split", "--folds", "5", "--fold", "1", "--catalog", built).exit_code == 0
    parts = json.loads(split_file(built).read_text())["splits"]
    assert {name: len(ids) for name, ids in parts.items()} == {"train": 16, "val": 4}


# --- features -----------------------------------------------------------------------------------

SMALL = ("--model", "viptt-net-small", "--weights", "none")
FEATURES = "import sys, cli; cli.main(['features', 'ct', *sys.argv[1:]])"


@pytest.fixture
def sized(tmp_path, ct_dataset) -> Path:
    """A store that the small network takes, and its split."""
    catalog = ct_dataset(tmp_path, scans=60, recipe={"shape": [8, 32, 32]})
    assert build(catalog, "-q").exit_code == 0
    assert viptt("split", "-q", "--catalog", catalog).exit_code == 0
    return catalog


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_features_then_a_training_on_them(sized, tmp_path):
    pytest.importorskip("tensorflow")
    result = viptt("features", "ct", *SMALL, "--json", "--catalog", sized)
    assert result.exit_code == 0, result.stderr
    assert "features of 60 samples" in result.stderr
    document = json.loads(result.stdout)
    assert (document["computed"], document["published"]) == (60, True)
    assert document["path"] == str(tmp_path / "cache/ct.features.zarr")
    again = viptt("features", "ct", *SMALL, "--catalog", sized)
    assert "nothing to do, features of 60 samples are up to date" in again.stderr
    run = tmp_path / "run"
    training = ["train", "ct", *SMALL, "--from-features", "--epochs", "1", "--catalog", sized, "--run"]
    assert viptt(*training, run).exit_code == 0
    assert viptt("evaluate", run, "--catalog", sized).exit_code == 0
    assert viptt(*training, tmp_path / "other", "--no-freeze").exit_code == 2
    other = viptt(*training, tmp_path / "other", "--seed", "1")
    assert other.exit_code == 4
    assert "stale-features" in other.stderr


def test_verify_looks_at_features_too(sized, tmp_path):
    pytest.importorskip("tensorflow")
    viptt("features", "ct", *SMALL, "-q", "--catalog", sized)
    chunk = tmp_path / "cache/ct.features.zarr/features/c.3.0.0"
    good = chunk.read_bytes()
    chunk.write_bytes(good[:50] + b"?" + good[51:])
    result = viptt("verify", "--repair", "--catalog", sized)
    assert result.exit_code == 4
    assert "viptt features" in result.stderr
    assert "1 computed" in viptt("features", "ct", *SMALL, "--catalog", sized).stderr
    assert chunk.read_bytes() == good
    assert viptt("verify", "--catalog", sized).exit_code == 0


@pytest.mark.slow
def test_features_killed_and_run_again_are_the_same_bytes(sized, tmp_path):
    pytest.importorskip("tensorflow")
    features, staging = tmp_path / "cache/ct.features.zarr", tmp_path / "cache/ct.features.zarr.building"
    start(sized, *SMALL, code=FEATURES).communicate()
    undisturbed = contents(features)
    for most in (1, 20, 40):
        shutil.rmtree(features)
        process = start(sized, *SMALL, code=FEATURES)
        while process.poll() is None and len(list(staging.glob("journal/*.json"))) < most:
            time.sleep(0.002)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not features.exists()
        process = start(sized, *SMALL, code=FEATURES)
        told = process.communicate()[1]
        kept = int(told.split(" kept from before")[0].split()[-1])
        assert most <= kept < 60, told
        assert contents(features) == undisturbed
        assert not staging.exists()
