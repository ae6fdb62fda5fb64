"""Ctrl-C, SIGTERM and a closed terminal end a call of Snakemake fast, whatever it is doing at that moment.

Snakemake's own handler of SIGTERM takes a lock inside the signal handler. If the interrupted main thread holds that lock, it waits for
itself for ever. Here the handler only leaves word, and a thread does the work.
"""

from __future__ import annotations

import os
import queue
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
LOOK_AGAIN = 0.1  # seconds between two looks for living jobs
GENTLE = 1.0  # seconds that a job has between SIGTERM and SIGKILL
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


def stop_on_signals(scheduler: Any, local: bool, told: Callable[[], None]) -> None:
    """From now on signals end this process and its jobs. To be called in the main thread, after Snakemake has set its handler.

    Args:
        scheduler: Snakemake's; its ``executor_error_callback`` ends the scheduling at the next safe place.
        local: whether all jobs are this process's children. Otherwise its executor cancels those that are elsewhere.
        told: called once, before anything ends.
    """
    asked: queue.SimpleQueue[int] = queue.SimpleQueue()  # its put may be called in a signal handler; it is reentrant
    for number in _heeded():
        signal.signal(number, lambda received, _: asked.put(received))
    threading.Thread(target=_wait_and_end, args=(asked, scheduler, local, told), daemon=True).start()


def _wait_and_end(asked: queue.SimpleQueue[int], scheduler: Any, local: bool, told: Callable[[], None]) -> None:
    asked.get()
    begun = time.monotonic()
    telling = threading.Thread(target=told, daemon=True)  # a terminal that takes no words must not keep the call alive
    telling.start()
    telling.join(timeout=LOOK_AGAIN)
    if not local:
        with suppress(Exception):
            scheduler._executor.cancel()
    threading.Thread(target=scheduler.executor_error_callback, args=(KeyboardInterrupt(),), daemon=True).start()
    while time.monotonic() - begun < PATIENCE[local] and asked.empty():  # asked twice: at once
        end_children(hard=time.monotonic() - begun > GENTLE)
        time.sleep(LOOK_AGAIN)
    end_children(hard=True)
    # Something holds Snakemake up for good. Its lock stays; study/tools/release_lock.py sees that its holder is dead.
    os._exit(1)


def end_children(hard: bool) -> None:
    """End all processes that this one has started, and theirs."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            (child.kill if hard else child.terminate)()
