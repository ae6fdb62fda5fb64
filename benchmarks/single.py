"""One run by everybody, for every size: times side by side, ratios from medians of the same rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import check, targets, timing
from benchmarks.ours import OURS, READABLE
from benchmarks.work import BATCH, STEPS, Contender, Form, Measured, Prepared, Work, make

PRODUCT = 1024  # side of the large matrices whose product is the machine's limit
ROUNDS = {32: 9, 64: 9, 128: 7, 256: 7, 512: 5}
TRIALS, LONG = 3, 0.2  # calls by which the fastest of a contender's forms is found; one, where it takes so many seconds

Expected = list[Measured]


@dataclass(frozen=True)
class Entry:
    """A contender at one size, in its fastest form, with the numbers checked."""

    contender: Contender
    form: Form
    ready: Prepared
    error: float


def measure(
    size: int, dtype: str, peers: Sequence[Contender], device: str = "cpu", steps: int = STEPS, batch: int = BATCH,
    rounds: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Everybody at one size, as results.json has it.

    Raises:
        WrongNumbers: a contender computes something else.
        MoreThanOneThread: a contender takes more than one.
    """
    ours = [OURS, READABLE] if device == "cpu" else [OURS]
    contenders = [*ours, *peers]
    most = max(form.runs for contender in contenders for form in contender.forms if size <= form.largest)
    works = [make(size, dtype, seed, steps, batch, device) for seed in range(most)]
    expected = [_only(READABLE.forms[0].prepare([work])) for work in works]
    entries = [fastest(contender, works, expected, dtype) for contender in contenders]

    calls: dict[str, Callable[[], Any]] = {entry.contender.name: entry.ready.call for entry in entries}
    products = large_products(dtype, device)
    runs = {entry.contender.name: entry.form.runs for entry in entries}
    most_threads = timing.THREADS if device == "cpu" else float("inf")  # on a GPU the CPU only waits, and may spin
    times = timing.side_by_side({**calls, **products}, rounds or ROUNDS.get(size, 7), runs, most=most_threads)
    rows = {entry.contender.name: {**_row(entry), **times[entry.contender.name].summary()} for entry in entries}
    by = {name: 2e-9 * PRODUCT**3 / float(np.median(times[name].seconds)) for name in products}
    best = max(by, key=lambda name: by[name])
    limit = {"gflops": round(by[best], 2), "by": best, "all": {name: round(rate, 2) for name, rate in by.items()}}
    return {"dtype": dtype, "hidden_size": size, "contenders": rows, "product": limit, **ratios(rows, limit, works[0])}


def _row(entry: Entry) -> dict[str, Any]:
    seconds = entry.ready.compile_seconds
    return {
        "label": entry.contender.label,
        "trace": entry.contender.trace,
        "form": entry.form.name,
        "runs": entry.form.runs,
        "relative_error": entry.error,
        "compile_seconds": None if seconds is None else round(seconds, 2),
    }


def ratios(rows: dict[str, Any], limit: dict[str, Any], work: Work) -> dict[str, Any]:
    """The results proper: ours against the best peer, and every contender's fraction of the matrix-product rate."""
    peers = {name: row["median_ms"] for name, row in rows.items() if name not in (OURS.name, READABLE.name)}
    best = min((name for name in peers if name != targets.BY_HAND), key=lambda name: peers[name])
    ours = rows[OURS.name]["median_ms"]
    fraction = {name: work.flops / (row["median_ms"] * 1e6 * limit["gflops"]) for name, row in rows.items()}
    return {
        "best_peer": best,
        "ours_vs_best_peer": round(peers[best] / ours, 3),
        "ours_vs_each": {name: round(time / ours, 3) for name, time in peers.items()},
        "fraction_of_product_rate": {name: round(value, 4) for name, value in fraction.items()},
    }


def _only(ready: Prepared) -> Measured:
    [measured] = ready.read(ready.call())
    return measured


def fastest(contender: Contender, works: Sequence[Work], expected: Expected, dtype: str) -> Entry:
    """The contender in that of its forms which a few calls show to be the fastest; all are checked.

    Raises:
        WrongNumbers: any of its forms computes something else.
    """
    tried: list[tuple[float, Entry]] = []
    for form in (form for form in contender.forms if works[0].hidden_size <= form.largest):
        ready = form.prepare(works[: form.runs])
        measured = ready.read(ready.call())
        name = f"{contender.name} ({form.name})"
        error = check.check(name, measured, expected[: form.runs], dtype, contender.trace)
        alone = len(contender.forms) == 1
        seconds = 0.0 if alone else _trial(ready) / form.runs
        tried.append((seconds, Entry(contender, form, ready, error)))
    return min(tried, key=lambda pair: pair[0])[1]


def _trial(ready: Prepared) -> float:
    first = timing.once(ready.call)[0]
    return first if first > LONG else min(first, *(timing.once(ready.call)[0] for _ in range(TRIALS - 1)))


def large_products(dtype: str, device: str) -> dict[str, Callable[[], Any]]:
    """The product of two large matrices by every library that is there: the fastest is the limit."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((PRODUCT, PRODUCT)).astype(dtype) for _ in range(2))
    out = np.empty_like(a)
    calls: dict[str, Callable[[], Any]] = {"NumPy": lambda: np.matmul(a, b, out=out)} if device == "cpu" else {}
    try:
        import torch

        from benchmarks.peers.torch_arrays import finished
    except ModuleNotFoundError:
        return calls
    first, second = torch.tensor(a, device=device), torch.tensor(b, device=device)
    into = torch.empty_like(first)
    calls["torch"] = finished(lambda: torch.matmul(first, second, out=into), device)
    return calls
