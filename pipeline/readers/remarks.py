"""What FFmpeg remarks while OpenCV decodes, caught where OpenCV prints it: on standard output.

OpenCV passes them on with C's ``printf``, a line each, behind ``[OPENCV:FFMPEG:16] ``; the number is FFmpeg's
level: 16 error, 8 fatal, 0 panic. So, for the time of a clip, descriptor 1 points at a file without a name.
What others write there meanwhile goes on to standard output, a little later. The descriptor belongs to the
whole process: one listens at a time, and the threads of a build take turns.

Does not hear remarks below errors, and nothing that is printed by other processes.
"""

import ctypes
import os
import re
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pipeline.errors import ConfigError

ERROR = 16  # AV_LOG_ERROR; what is worse has a lower number
STDOUT = 1
ROOM = 1 << 20  # bytes that may wait in the file
PIECE = 1 << 16
MAX_WORDS = 120  # letters of a remark that are quoted
_REMARK = re.compile(rb"\[OPENCV:FFMPEG:(-?\d{1,3})\] ([^\n]*)\n?")
_TURN = threading.RLock()


class Remarks:
    """How many remarks there were, and the words of the first, on one line."""

    def __init__(self, stdout: int) -> None:
        self.count = 0
        self.first = ""
        self._stdout = stdout
        self._file = -1

    def make_room(self) -> None:
        """Take in what waits, if it is much; so a damaged clip may say as much as it likes."""
        if self._file < 0 or os.fstat(self._file).st_size > ROOM:
            _flush()  # or a line may be torn
            full, self._file = self._file, _nameless_file()
            os.dup2(self._file, STDOUT)  # before the old one is read: nothing falls between the two
            self._take_in(full)

    def close(self) -> None:
        """Give standard output back, and take in the rest."""
        os.dup2(self._stdout, STDOUT)
        full, self._file = self._file, -1
        self._take_in(full)

    def _take_in(self, file: int) -> None:
        if file < 0:
            return
        os.lseek(file, 0, os.SEEK_SET)
        left = b""
        while piece := os.read(file, PIECE):
            lines, end, left = (left + piece).rpartition(b"\n")
            self._sort(lines + end)
            if len(left) > PIECE:
                self._sort(left)
                left = b""
        self._sort(left)
        os.close(file)

    def _sort(self, text: bytes) -> None:
        """Remarks are counted, the rest is for standard output."""
        for level, words in _REMARK.findall(text):
            if int(level) <= ERROR:
                self.count += 1
                self.first = self.first or _plain(words)
        rest = memoryview(_REMARK.sub(b"", text))
        with suppress(OSError):  # a reader that has gone away is found by the next who prints
            while rest:
                rest = rest[os.write(self._stdout, rest) :]


@contextmanager
def listening() -> Iterator[Remarks]:
    """Hear what FFmpeg remarks in this block; the count is whole when it has ended.

    Raises ConfigError with code no-stdout if the process has no standard output: then its number may
    belong to some other file, which must not be turned away.
    """
    with _TURN:
        _check_stdout()
        stdout = os.dup(STDOUT)
        remarks = Remarks(stdout)
        try:
            remarks.make_room()
            yield remarks
        finally:
            try:
                _flush()
            finally:
                remarks.close()
                os.close(stdout)


def ask_for_errors() -> None:
    """OpenCV reads the level once, before a process's first clip; what a user has set would make us deaf."""
    os.environ["OPENCV_FFMPEG_LOGLEVEL"] = str(ERROR)


def _check_stdout() -> None:
    """Python has no ``sys.__stdout__`` where it began without; the command line then opens a null device."""
    with suppress(OSError):
        if sys.__stdout__ is not None or stat.S_ISCHR(os.fstat(STDOUT).st_mode):
            os.fstat(STDOUT)
            return
    reason = "this process has no standard output, on which OpenCV tells of damage"
    raise ConfigError.of("stdout", "no-stdout", reason, "run it with `>/dev/null`")


def _flush() -> None:
    """Python's buffer and C's: what was printed before belongs to standard output."""
    with suppress(OSError, ValueError, AttributeError):  # closed, replaced, or none
        sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("remarks")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _plain(words: bytes) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in words.decode("ascii", "replace"))
    return " ".join(text.split())[:MAX_WORDS]
