"""One group of the grid: a network in several regimes, by everybody, in the same rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import cases, timing
from benchmarks.cases import Group
from benchmarks.check import Reference, WrongNumbers, first_call, only
from benchmarks.ours import OURS
from benchmarks.work import BATCH, Contender, Form, Prepared, Work

PRODUCT = 1024  # side of the large matrices whose product is the machine's limit
RATE_LENGTH, RATE_REGIMES = 500, ("critical", "vanishing")
IN_RANGE = "critical"  # the regime in which every float holds, and every peer must be right


@dataclass(frozen=True)
class Entry:
    """A contender in one regime, ready, its numbers judged."""

    contender: Contender
    form: Form
    ready: Prepared
    right: bool
    error: float
    seconds: float  # a call took


def measure(
    group: Group, peers: Sequence[Contender], rounds: timing.Rounds | None = None, batch: int = BATCH, device: str = "cpu"
) -> list[dict[str, Any]]:  # fmt: skip
    """Everybody in every regime of a group, as results.json has it.

    Raises:
        WrongNumbers: ours is wrong, or a peer is where every float holds.
        MoreThanOneThread: a contender takes more than one.
    """
    forms: dict[str, Form] = {}  # of each contender the fastest, found in the first regime
    entries: dict[tuple[str, str], Entry] = {}
    facts: dict[str, dict[str, Any]] = {}
    for regime in sorted(group.regimes, key=lambda name: name != IN_RANGE):
        most = max(form.runs for peer in peers for form in peer.forms) if peers else 1
        works = [cases.make(group, regime, seed, batch, device) for seed in range(most)]
        reference = Reference(works[0])
        facts[regime] = facts_of(reference.expected.log_norm, group.dtype)
        for contender in (OURS, *peers):
            if not contender.has(works[0]):
                continue
            known = forms.get(contender.name)
            entry = fastest(contender, works, reference, (known,) if known else contender.forms)
            if regime == IN_RANGE:
                refuse(entry, f"{group}")
            forms[contender.name] = entry.form
            entries[regime, contender.name] = entry
    times = timing.side_by_side(
        {" ".join(key): entry.ready.call for key, entry in entries.items()},
        rounds or timing.Rounds(),
        {" ".join(key): entry.seconds for key, entry in entries.items()},
        {" ".join(key): entry.form.runs for key, entry in entries.items()},
        timing.THREADS if device == "cpu" else float("inf"),  # on a GPU the CPU only waits, and may spin
    )
    return [
        {
            "cell": group.cell, "regime": regime, "dtype": group.dtype, "hidden_size": group.hidden_size, "length": group.length,
            **facts[regime],
            "contenders": {
                name: {**row(entry), **times[f"{regime} {name}"].summary()}
                for (where, name), entry in entries.items() if where == regime
            },
        }
        for regime in group.regimes
    ]  # fmt: skip


def row(entry: Entry) -> dict[str, Any]:
    """What results.json says of a contender beside its times."""
    compiling = entry.ready.compile_seconds
    return {
        "label": entry.contender.label,
        "form": entry.form.name,
        "right": entry.right,
        "relative_error": timing.four_digits(entry.error) if np.isfinite(entry.error) else None,
        **({} if compiling is None else {"compile_seconds": round(compiling, 2)}),
    }


def refuse(entry: Entry, where: str) -> None:
    """Nobody is timed on other work; beyond the range of floats a peer may be wrong, and is said to be.

    Raises:
        WrongNumbers: as ``measure``.
    """
    if not entry.right:
        said = f"{entry.contender.name} ({entry.form.name}), {where}: {entry.error:.1e} away from our answer"
        raise WrongNumbers(f"{said}: it computes something else")


def facts_of(log_norm: np.ndarray | None, dtype: str) -> dict[str, Any]:
    """The trace's lowest and highest log10, and the share of steps whose norm no float of the dtype holds."""
    assert log_norm is not None
    limits = np.finfo(dtype)
    outside = (log_norm < np.log(limits.tiny)) | (log_norm > np.log(limits.max))
    lowest, highest = (round(float(end) / np.log(10.0), 1) for end in (log_norm.min(), log_norm.max()))
    return {"decades": [lowest, highest], "beyond": round(float(outside.mean()), 3)}


def fastest(contender: Contender, works: Sequence[Work], reference: Reference, forms: Sequence[Form]) -> Entry:
    """The contender in that of its forms which a second call shows to be the fastest; the last call's time is kept."""
    clock = time.process_time if works[0].device == "cpu" else time.perf_counter
    tried = []
    for form in (form for form in forms if works[0].hidden_size <= form.largest):
        ready = form.prepare(works[: form.runs])
        measured, seconds = first_call(ready, clock)
        if seconds < 1.0:  # the first may have to find its memory
            seconds = min(seconds, first_call(ready, clock)[1])
        right, error = reference.judge(measured[0])
        tried.append(Entry(contender, form, ready, right, error, max(seconds, 1e-6)))
    return min(tried, key=lambda entry: entry.seconds / entry.form.runs)


def rate(size: int, rounds: timing.Rounds | None = None, length: int = RATE_LENGTH) -> dict[str, Any]:
    """Ours beside the product of two large matrices: vanilla tanh, float64, in range and out of range."""
    works = {regime: cases.make(Group("vanilla", "tanh", size, "float64", length), regime) for regime in RATE_REGIMES}
    ready = {regime: OURS.forms[0].prepare([work]) for regime, work in works.items()}
    facts = {regime: facts_of(only(ready[regime]).log_norm, "float64") for regime in works}
    products = large_products("float64")
    calls = {**{regime: each.call for regime, each in ready.items()}, **products}
    lasts = {name: timing.once(call)[0] for name, call in calls.items()}
    times = timing.side_by_side(calls, rounds or timing.Rounds(5, 9, 3.0), lasts)
    seconds = {name: float(np.median(each.seconds)) for name, each in times.items()}
    best = min(products, key=lambda name: seconds[name])
    limit = 2e-9 * PRODUCT**3 / seconds[best]
    return {
        "hidden_size": size, "length": length, "product": {"gflops": round(limit, 2), "by": best},
        "ours": {
            regime: {**facts[regime], **times[regime].summary(), "fraction": round(work.flops * 1e-9 / seconds[regime] / limit, 4)}
            for regime, work in works.items()
        },
    }  # fmt: skip


def large_products(dtype: str) -> dict[str, Callable[[], Any]]:
    """The product of two large matrices by every library that is there: the fastest is the limit."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((PRODUCT, PRODUCT)).astype(dtype) for _ in range(2))
    out = np.empty_like(a)
    calls: dict[str, Callable[[], Any]] = {"NumPy": lambda: np.matmul(a, b, out=out)}
    try:
        import torch

        import benchmarks.peers.torch_arrays  # noqa: F401 one thread
    except ModuleNotFoundError:
        return calls
    first, second = torch.tensor(a), torch.tensor(b)
    into = torch.empty_like(first)
    calls["torch"] = lambda: torch.matmul(first, second, out=into)
    return calls
