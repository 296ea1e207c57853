"""SIGINT and SIGTERM: how a command ends, and what may end first. Nothing waits for ever."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

STOPS = (signal.SIGINT, signal.SIGTERM)
GRACE_SECONDS = 8.0  # from a signal to the end of the process, whatever it does


@contextmanager
def ending_by_signals(told: str) -> Iterator[list[int]]:
    """End the block at SIGINT or SIGTERM; yields the list of signals received.

    A library that is interrupted while it holds a lock may raise an error about the lock. The caller
    ignores all errors after a signal for that reason. Python sees a signal only when a library returns to
    it: where that takes longer than GRACE_SECONDS, the process ends there, with ``told`` on stderr.
    """
    received: list[int] = []

    def end(number: int, frame: object) -> NoReturn:
        received.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in STOPS}
    try:
        with _ended_in_time(told), suppress(KeyboardInterrupt):
            yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _ended_in_time(told: str) -> Iterator[None]:
    """A thread that hears signals at once and ends the process if the block does not.

    All that a command writes appears whole or not at all, so that it may end at any moment.
    """
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    done = threading.Event()

    def listen() -> None:
        heard = ear.recv(1)
        while heard and heard[0] not in STOPS:
            heard = ear.recv(1)
        if heard and not done.wait(GRACE_SECONDS):
            with suppress(OSError):
                os.write(2, f"{told}\n".encode())
            os._exit(128 + heard[0])

    listener = threading.Thread(target=listen, name="viptt-signals", daemon=True)
    previous = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        done.set()
        mouth.close()
        listener.join()
        ear.close()


@contextmanager
def signals_later(tell: Callable[[], object]) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM wait for the end of the block, which learns of it from ``tell()``.

    An exception that comes at any moment may come where Python cannot raise it (in a destructor: the build
    would go on), or where a cluster does not know how to close, and says so at length. A second signal does
    not wait; one that this process ignores stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt
        tell()

    heard = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
