"""Timing side by side: everybody once a round, in changing order, so that a slow moment of the machine hits all alike."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

AT_LEAST = 0.015  # seconds a turn: shorter calls are repeated, and their mean counts
# Seconds. A shorter call is preceded by an untimed one, because the contender before has emptied the caches.
WARMED = 0.04
MOST_REPEATS = 16
THREADS = 1.1  # CPU time by wall time of one thread, with room for the clocks' resolution


class MoreThanOneThread(Exception):
    """Somebody used more than one thread."""


@dataclass(frozen=True)
class Rounds:
    """How often: at least ``least`` rounds, then more until ``seconds`` are over or there are ``most``.

    By CPU time instead of the clock's where a machine is shared with others.
    """

    least: int = 3
    most: int = 9
    seconds: float = 4.0
    by_cpu: bool = False


@dataclass(frozen=True)
class Times:
    """Of one contender, seconds a run: a value a round."""

    seconds: list[float]
    threads: float

    def summary(self) -> dict[str, float]:
        """Median and quartiles in milliseconds, and CPU time by wall time."""
        low, middle, high = np.percentile(self.seconds, [25, 50, 75]) * 1e3
        return {
            "median_ms": four_digits(middle),
            "lower_quartile_ms": four_digits(low),
            "upper_quartile_ms": four_digits(high),
            "rounds": len(self.seconds),
            "threads": round(self.threads, 3),
        }


def four_digits(value: float) -> float:
    """As many as a time is known to, and one."""
    return float(f"{value:.4g}")


def once(call: Callable[[], Any], repeats: int = 1) -> tuple[float, float]:
    """(wall, CPU) seconds of one call, as the mean of several."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats


def side_by_side(
    calls: Mapping[str, Callable[[], Any]],
    rounds: Rounds,
    lasts: Mapping[str, float] | None = None,
    runs: Mapping[str, int] | None = None,
    most_threads: float = THREADS,
) -> dict[str, Times]:
    """Times by name.

    Args:
        calls: who competes.
        rounds: how often.
        lasts: seconds that a call took before; without them a call is taken to be long.
        runs: how many runs a call does, where it is not one.
        most_threads: CPU time by wall time above which somebody cheats.

    Raises:
        MoreThanOneThread: by CPU time.
    """
    names = list(calls)
    known = {name: (lasts or {}).get(name, math.inf) for name in names}
    repeats = {name: max(1, min(MOST_REPEATS, math.ceil(AT_LEAST / known[name]))) for name in names}
    timed: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    begun = time.perf_counter()
    try:
        for number in range(rounds.most):
            if number >= rounds.least and time.perf_counter() - begun > rounds.seconds:
                break
            start = number * 7 % len(names)  # not the next one: every contender follows others
            for name in [*names[start:], *names[:start]]:
                if known[name] < WARMED:
                    calls[name]()
                timed[name].append(once(calls[name], repeats[name]))
    finally:
        gc.enable()
    return {name: _times(name, timed[name], (runs or {}).get(name, 1), most_threads, rounds.by_cpu) for name in names}


def _times(name: str, timed: list[tuple[float, float]], runs: int, most: float = THREADS, by_cpu: bool = False) -> Times:  # fmt: skip
    threads = float(np.median([cpu / wall for wall, cpu in timed]))
    if threads > most:
        raise MoreThanOneThread(f"{name} used {threads:.2f} threads; everybody has one")
    return Times([(cpu if by_cpu else wall) / runs for wall, cpu in timed], threads)
