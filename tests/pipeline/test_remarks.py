"""What FFmpeg remarks is heard, and nobody else's words are lost; C and Python print both themselves."""

import ctypes
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from pipeline.readers import remarks
from pipeline.readers.remarks import MAX_WORDS, listening

ROOT = Path(remarks.__file__).parents[2]
libc = ctypes.CDLL(None)


def remark(words, level=16):
    """As OpenCV says it: through C's buffer, with nothing that pushes it out."""
    libc.printf(b"[OPENCV:FFMPEG:%02d] %s\n", level, words)


def test_remarks_are_counted_and_the_first_is_kept(capfd):
    with listening() as heard:
        remark(b"ac-tex damaged at 10 6")
        remark(b"Error at MB: 301")
    assert (heard.count, heard.first) == (2, "ac-tex damaged at 10 6")
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(("level", "count"), [(0, 1), (8, 1), (16, 1), (24, 0), (32, 0), (-8, 1)])
def test_only_errors_and_worse_count(capfd, level, count):
    with listening() as heard:
        remark(b"words", level)
    assert heard.count == count
    assert capfd.readouterr().out == ""


def test_words_become_one_plain_line():
    with listening() as heard:
        remark(b"a\t\x1b[31mred\x07 \xff\r=1+2 " + 500 * b"x")
    assert heard.first.startswith("a [31mred \N{REPLACEMENT CHARACTER} =1+2 xxx")
    assert heard.first.isprintable()
    assert len(heard.first) == MAX_WORDS


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_standard_output_comes_back_whatever_happens(capfd, error):
    opened = list(Path("/proc/self/fd").iterdir())
    with pytest.raises(error), listening() as heard:  # noqa: PT012
        remark(b"damaged")
        os.write(1, b"kept\n")
        raise error
    os.write(1, b"after\n")
    assert heard.count == 1
    assert capfd.readouterr().out == "kept\nafter\n"
    assert list(Path("/proc/self/fd").iterdir()) == opened


def test_one_within_another(capfd):
    with listening() as outer:
        remark(b"outer")
        with listening() as inner:
            remark(b"inner")
            os.write(1, b"words\n")
        remark(b"outer")
    assert (outer.count, outer.first, inner.count, inner.first) == (2, "outer", 1, "inner")
    assert capfd.readouterr().out == "words\n"


def test_threads_take_turns(capfd):
    counts = {}

    def listen(number):
        for _ in range(20):
            with listening() as heard:
                for _ in range(number):
                    remark(b"of thread %d" % number)
            counts.setdefault(number, set()).add((heard.count, heard.first))

    threads = [threading.Thread(target=listen, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == {number: {(number, f"of thread {number}")} for number in (1, 2, 3)}
    assert capfd.readouterr().out == ""


def test_endless_remarks_take_no_more_than_their_room(capfd):
    most = 0
    with listening() as heard:
        for _ in range(60):
            for _ in range(1000):
                remark(b"x" * 100)
            most = max(most, os.fstat(1).st_size)
            heard.make_room()
        libc.fflush(None)
        os.write(1, b"at the end\n")
    assert heard.count == 60_000  # 7 MB
    assert most < remarks.ROOM + 200_000
    assert capfd.readouterr().out == "at the end\n"


def test_lines_longer_than_a_piece_are_read(capfd):
    with listening() as heard:
        remark(b"first")
        os.write(1, 3 * remarks.PIECE * b"y" + b"\n")
        remark(b"last")
    assert heard.count == 2
    assert capfd.readouterr().out == 3 * remarks.PIECE * "y" + "\n"


# --- processes ----------------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path, write_clip):
    """A clip with a bit flipped in the middle of a frame, which leaves the number of frames as it is."""
    noise = np.random.default_rng(3).integers(0, 256, (30, 12, 16, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    path = write_clip(tmp_path / "raw/v_B_g02_c01.avi", noise, "XVID")
    data = bytearray(path.read_bytes())
    place = len(data) // 2
    data[place : place + 8] = bytes(8)
    path.write_bytes(data)
    for label, group in (("A", 1), ("B", 1)):
        name = path.with_name(f"v_{label}_g0{group}_c01.avi")
        write_clip(name, np.roll(noise, ord(label), 2), "XVID")
    return path


def run(code, *arguments, shell="", **environment):
    """A Python of its own; ``shell`` is what follows its command line, such as ``>&-``."""
    command = ["sh", "-c", f'exec "$@" {shell}', "sh", sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    environment.pop("PYTHONUNBUFFERED", None)  # which is C's buffer, too
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


PRINT = """
import ctypes, os
from pipeline.readers.remarks import listening
c = ctypes.CDLL(None)
print("before, in Python's buffer")
c.printf(b"before, in C's buffer\\n")
with listening() as heard:
    os.write(1, b"one\\n")
    c.printf(b"[OPENCV:FFMPEG:16] damaged\\ntwo\\n")
    c.fflush(None)
    print("three, without an end", end="", flush=True)
    c.printf(b"[OPENCV:FFMPEG:16] damaged\\n")
print("; after", heard.count)
"""


def test_what_others_print_goes_on_in_order():
    *before, one, two, three = run(PRINT).stdout.splitlines()
    assert sorted(before) == ["before, in C's buffer", "before, in Python's buffer"]
    assert [one, two, three] == ["one", "two", "three, without an end; after 2"]


MANY = """
import ctypes
from pipeline.readers.remarks import listening
c = ctypes.CDLL(None)
with listening() as heard:
    for _ in range(30):
        for _ in range(1000):
            c.printf(b"[OPENCV:FFMPEG:16] %s\\n", 100 * b"x")
        heard.make_room()
print(heard.count)
"""


def test_no_remark_is_torn_where_room_is_made():
    assert run(MANY).stdout == "30000\n"


READ = """
import sys, pathlib
from pipeline.errors import VipttError
from pipeline.readers.video import read
try:
    read(pathlib.Path(sys.argv[1]))
except VipttError as error:
    print(error, file=sys.stderr)
"""


@pytest.mark.parametrize("level", ["-8", "0", "48", "no number"])
def test_what_a_user_asked_opencv_for_changes_nothing(damaged, level):
    done = run(READ, damaged, OPENCV_FFMPEG_LOGLEVEL=level)
    assert done.stdout == ""
    assert f"{damaged}: decode-warnings: while it was decoded, " in done.stderr


def test_an_opencv_that_keeps_silent_is_refused(damaged):
    before = "import cv2, sys; cv2.VideoCapture(sys.argv[1]).release()"
    done = run(before + READ, damaged, OPENCV_FFMPEG_LOGLEVEL="-8")
    assert done.stdout == ""
    assert done.stderr.startswith("cv2: remarks-unheard: ")


def test_without_a_temporary_folder_no_clip_is_blamed(damaged):
    broken = "import tempfile; tempfile.tempdir = '/dev/null'"
    assert run(broken + READ, damaged).stderr.startswith("cv2: no-temporary-file: ")


@pytest.mark.parametrize("first", ["", "taken = open(sys.argv[1] + '.txt', 'w'); assert taken.fileno() == 1"])
def test_without_standard_output_no_other_file_is_turned_away(damaged, first):
    done = run("import sys; " + first + READ, damaged, shell=">&-")
    assert done.stderr.startswith("stdout: no-stdout: ")
    assert not first or Path(f"{damaged}.txt").read_bytes() == b""


CATALOG = """\
version: 1
datasets:
  clips:
    type: video
    path: raw
    labels: {regex: 'v_(?P<label>[AB])_'}
    classes: [A, B]
    recipe: {shape: [4, 8, 8]}
    store: clips.zarr
    split: {file: clips.json}
"""
COMMAND = "import sys; from cli import main; main(sys.argv[1:])"


@pytest.fixture
def catalog(damaged):
    path = damaged.parents[1] / "c.yaml"
    path.write_text(CATALOG)
    return path


def quarantine(catalog):
    return catalog.with_name("clips.quarantine.csv").read_text()


@pytest.mark.parametrize("shell", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_commands_run_with_closed_descriptors(catalog, damaged, shell):
    build = ["build", "--scheduler", "sync", "--catalog", catalog]
    assert run(COMMAND, *build, shell=shell).returncode == 3
    assert quarantine(catalog).splitlines()[1].startswith(f"{damaged.name},decode-warnings,")
    assert run(COMMAND, "verify", "--catalog", catalog).returncode == 0


def test_the_verdict_is_the_same_for_all_schedulers(catalog, damaged):
    found = {}
    for scheduler in ("sync", "threads", "local"):
        options = ["--scheduler", scheduler, "--workers", "2", "--json", "--catalog", catalog]
        done = run(COMMAND, "build", *options)
        assert done.returncode == 3, done.stderr
        (dataset,) = json.loads(done.stdout)["datasets"]  # one document, and nothing else
        assert dataset["samples"] == 2
        found[scheduler] = quarantine(catalog)
        catalog.with_name("clips.quarantine.csv").unlink()
        catalog.with_name("clips.zarr").rename(catalog.with_name(f"{scheduler}.zarr"))
    assert len(set(found.values())) == 1
    assert damaged.name in found["sync"]


def test_a_look_at_the_headers_says_nothing_of_it(catalog, damaged):
    shallow = run(COMMAND, "check", "--json", "--catalog", catalog)
    assert (shallow.returncode, json.loads(shallow.stdout)["datasets"][0]["bad"]) == (0, [])
    deep = run(COMMAND, "check", "--deep", "--json", "--catalog", catalog)
    (problem,) = json.loads(deep.stdout)["datasets"][0]["bad"]
    assert (deep.returncode, problem["code"]) == (3, "decode-warnings")
    assert shallow.stderr.count("\n") == deep.stderr.count("\n") - 1
