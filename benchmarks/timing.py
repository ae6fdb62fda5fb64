"""Timing side by side: everybody once a round, in changing order, so that a slow moment of the machine hits all alike."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

AT_LEAST = 0.03  # seconds a turn: shorter calls are repeated, and their mean counts
# Seconds. A shorter call is preceded by an untimed one, because the contender before has emptied the caches.
WARMED = 0.15
MOST_REPEATS = 16
THREADS = 1.1  # CPU time by wall time of one thread, with room for the clocks' resolution


class MoreThanOneThread(Exception):
    """Somebody used more than one thread."""


@dataclass(frozen=True)
class Times:
    """Of one contender, seconds a run: a value a round."""

    seconds: list[float]
    threads: float

    def summary(self) -> dict[str, float]:
        """Median and quartiles in milliseconds, and CPU time by wall time."""
        low, middle, high = np.percentile(self.seconds, [25, 50, 75]) * 1e3
        return {
            "median_ms": round(middle, 4),
            "lower_quartile_ms": round(low, 4),
            "upper_quartile_ms": round(high, 4),
            "rounds": len(self.seconds),
            "threads": round(self.threads, 3),
        }


def once(call: Callable[[], Any], repeats: int = 1) -> tuple[float, float]:
    """(wall, CPU) seconds of one call, as the mean of several."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats


def side_by_side(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int,
    runs: Mapping[str, int] | None = None,
    warm_up: bool = True,
    most: float = THREADS,
) -> dict[str, Times]:
    """Times by name; ``runs`` says how many runs a call does, where it is not one.

    Raises:
        MoreThanOneThread: by CPU time.
    """
    names = list(calls)
    lasts = {name: _seconds(call) if warm_up else math.inf for name, call in calls.items()}
    repeats = {name: max(1, min(MOST_REPEATS, math.ceil(AT_LEAST / seconds))) for name, seconds in lasts.items()}
    timed: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            start = number % len(names)
            for name in [*names[start:], *names[:start]]:
                if lasts[name] < WARMED:
                    calls[name]()
                timed[name].append(once(calls[name], repeats[name]))
    finally:
        gc.enable()
    return {name: _times(name, timed[name], (runs or {}).get(name, 1), most) for name in names}


def _seconds(call: Callable[[], Any]) -> float:
    """Of one call, and where it is short of the second, because the first may have to find its memory."""
    first = once(call)[0]
    return first if first > WARMED else once(call)[0]


def _times(name: str, timed: list[tuple[float, float]], runs: int, most: float = THREADS) -> Times:
    threads = float(np.median([cpu / wall for wall, cpu in timed]))
    if threads > most:
        raise MoreThanOneThread(f"{name} used {threads:.2f} threads; everybody has one")
    return Times([wall / runs for wall, _ in timed], threads)
