"""Ctrl-C, SIGTERM and a closed terminal end a call of Snakemake fast, whatever it is doing at that moment.

Snakemake's own handler of SIGTERM takes a lock inside the signal handler. If the interrupted main thread holds that lock, it waits for
itself for ever. Here the signal only leaves word, and a thread does the work.

A terminal sends its signals to the jobs too. A job that died of one before this process had heard of it would look like a failure. So jobs
do not receive what a terminal sends: this process ends them, once it knows that it is stopped.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

import psutil  # type: ignore[import-untyped]  # Snakemake needs it too

STOPPED = "Stopped. What is finished is kept; the same command goes on."
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
A_TERMINALS = (signal.SIGINT, signal.SIGHUP)  # sent to all processes in its foreground
LOOK_AGAIN = 0.1  # seconds between two looks for living jobs
GENTLE = 1.0  # seconds that a job has between SIGTERM and SIGKILL
HEARD_LATER = (
    2.0  # seconds in which this process hears of a signal of which a job has died; on an idle machine a millisecond
)
MEANT_TWICE = 0.5  # seconds between two signals that mean "at once"; a terminal that closes may send two
# Seconds for Snakemake to end by itself: where all jobs run on this machine, and where they do not.
PATIENCE = {True: 30.0, False: 300.0}


def end_in_words() -> None:
    """Let a Ctrl-C end this process with one sentence where nobody catches it, instead of a traceback."""
    former = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            former(kind, error, trace)
            return
        warnings.simplefilter("ignore")  # of coroutines that nobody awaits any more,
        sys.unraisablehook = lambda _: None  # and of event loops that were interrupted while they were made
        print(STOPPED, file=sys.stderr, flush=True)

    sys.excepthook = hook


def interrupt_on_signals() -> None:
    """SIGTERM and a closed terminal act like Ctrl-C while no job runs yet. To be called in the main thread."""
    for number in _heeded():
        signal.signal(number, signal.default_int_handler)


def _heeded() -> list[int]:
    """The signals that may stop this process. A process under ``nohup`` or in a shell's background ignores some."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def stop_on_signals(scheduler: Any, local: bool, stopping: threading.Event, told: Callable[[], None]) -> None:
    """From now on signals end this process and its jobs. To be called in the main thread, after Snakemake has set its handler.

    Args:
        scheduler: Snakemake's; its ``executor_error_callback`` ends the scheduling at the next safe place.
        local: whether all jobs are this process's children. Otherwise its executor cancels those that are elsewhere.
        stopping: set when a signal has come, before anything ends.
        told: called once after that. Nothing waits for it long.
    """
    asked = _Asked(_heeded())
    threading.Thread(target=_wait_and_end, args=(asked, scheduler, local, stopping, told), daemon=True).start()
    # Threads that begin from now on, and the jobs that they start, inherit this. The thread above has begun already: it receives.
    signal.pthread_sigmask(signal.SIG_BLOCK, A_TERMINALS)


class _Asked:
    """Tells a thread that a signal has come, whatever the main thread waits for. To be made in the main thread.

    Python runs a handler in the main thread alone, and the system may give the signal to another one. Then a main thread that waits
    for a lock does not wake. What C writes to the wake-up descriptor comes at once.
    """

    def __init__(self, numbers: list[int]) -> None:
        self._numbers = set(numbers)
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        for number in numbers:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def wait(self) -> None:
        """Until one of the signals comes."""
        while not self.again(None):
            pass

    def again(self, seconds: float | None = 0.0) -> bool:
        """Whether one of them comes within so many seconds; None is for ever."""
        ready = select.select([self._read], [], [], seconds)[0]
        return bool(ready) and not self._numbers.isdisjoint(os.read(self._read, 64))


def _wait_and_end(
    asked: _Asked, scheduler: Any, local: bool, stopping: threading.Event, told: Callable[[], None]
) -> None:
    asked.wait()
    stopping.set()
    begun = time.monotonic()
    telling = threading.Thread(target=told, daemon=True)  # a terminal that takes no words must not keep the call alive
    telling.start()
    telling.join(timeout=LOOK_AGAIN)
    if not local:
        with suppress(Exception):
            scheduler._executor.cancel()
    threading.Thread(target=scheduler.executor_error_callback, args=(KeyboardInterrupt(),), daemon=True).start()
    while time.monotonic() - begun < PATIENCE[local]:
        end_children(hard=time.monotonic() - begun > GENTLE)
        if asked.again(LOOK_AGAIN) and time.monotonic() - begun > MEANT_TWICE:
            break
    end_children(hard=True)
    # Something holds Snakemake up for good. Its lock stays; study/tools/release_lock.py sees that its holder is dead.
    os._exit(1)


def end_children(hard: bool) -> None:
    """End all processes that this one has started, and theirs."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            (child.kill if hard else child.terminate)()
