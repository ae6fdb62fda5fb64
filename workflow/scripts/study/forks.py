"""Sharing work among forks of a job's process: what it has imported serves all of them."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Callable, Sequence

MOST = 256  # items; the number of each is one byte in a pipe


def share_out(work: Callable[[str], None], items: Sequence[str], processes: int) -> None:
    """Do ``work`` for every item, in ``processes`` processes: this one and forks of it. Each takes the next item when it is free.

    A failing item ends its own process alone. The words of a fork's error go where a job's would.

    Raises:
        SystemExit: a fork failed.
        ValueError: there are more than ``MOST`` items.
    """
    if len(items) > MOST:
        raise ValueError(f"{len(items)} items are more than {MOST}")
    if sys.platform != "linux":  # elsewhere libraries may not survive a fork
        processes = 1
    queue, end = os.pipe()
    os.write(end, bytes(range(len(items))))
    os.close(end)
    gc.freeze()  # what is imported is looked at no more, and so its pages stay shared
    sys.stdout.flush()
    sys.stderr.flush()
    forks = [_fork(work, items, queue) for _ in range(min(processes, len(items)) - 1)]
    try:
        _work_off(work, items, queue)
    finally:
        os.close(queue)
        ends = [os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) for fork in forks]
    for status in ends:
        if status < 0:
            raise SystemExit(f"A process of this job was killed (signal {-status}): by hand, or for want of memory.")
        if status:
            raise SystemExit(status)


def _work_off(work: Callable[[str], None], items: Sequence[str], queue: int) -> None:
    """Take items off the queue until it is empty. A pipe gives every byte to one reader only."""
    while number := os.read(queue, 1):
        work(items[number[0]])


def _fork(work: Callable[[str], None], items: Sequence[str], queue: int) -> int:
    """The process number of a fork that works off the queue."""
    if process := os.fork():
        return process
    status = 1
    try:
        _work_off(work, items, queue)
        status = 0
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # nothing of the job's own end, which is not this fork's
