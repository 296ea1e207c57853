"""Sources come into the page cache before their task begins; order and tasks stay what they are."""

import ctypes
import mmap
import os
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.build.read_ahead import prefetch, read_ahead


def cached(path):
    """Share of a file's pages that are in the page cache, by mincore(2), which does not bring them there."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        content = np.frombuffer(mapped, np.uint8)
        pages = np.zeros(-(-content.size // mmap.PAGESIZE), np.uint8)
        size = ctypes.c_size_t(content.size)
        error = ctypes.CDLL(None).mincore(ctypes.c_void_p(content.ctypes.data), size, pages.ctypes)
        del content
    assert error == 0
    return np.mean(pages & 1)


@pytest.fixture
def cold(tmp_path):
    """A file on a disk, and not in the page cache."""
    path = tmp_path / "source"
    path.write_bytes(os.urandom(8 << 20))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if cached(path):
        pytest.skip("files cannot be dropped from the cache here")
    return path


def tasks(*paths):
    return [SimpleNamespace(path=path) for path in paths]


def wait_until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_file_comes_into_the_cache(cold):
    prefetch(cold)
    wait_until(lambda: cached(cold) == 1)


def test_the_next_source_is_read_while_a_task_runs(cold, tmp_path):
    first, second = tasks(tmp_path / "missing", cold)
    running = read_ahead([first, second])
    assert next(running) is first
    wait_until(lambda: cached(cold) == 1)
    assert list(running) == [second]


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_tasks_are_the_same_in_the_same_order(tmp_path, count):
    many = tasks(*(tmp_path / str(number) for number in range(count)))
    assert list(read_ahead(iter(many))) == many


def test_one_is_taken_ahead_and_not_more(tmp_path):
    taken = []

    def listed():
        for task in tasks(*(tmp_path / str(number) for number in range(7))):
            taken.append(task)
            yield task

    running = read_ahead(listed())
    next(running)
    assert len(taken) == 2


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    prefetch(tmp_path / "pipe")


def test_its_thread_ends_with_it(tmp_path):
    before = set(threading.enumerate())
    running = read_ahead(tasks(*(tmp_path / str(number) for number in range(7))))
    next(running)
    (thread,) = set(threading.enumerate()) - before
    running.close()
    thread.join(30)
    assert not thread.is_alive()
