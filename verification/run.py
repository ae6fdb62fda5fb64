"""``make verify``: the engine against every oracle, over cells × activations × regimes × lengths × loss × devices.

It writes ``engine_verification.parquet``, ``.md``, ``.png`` and ``.svg``, and ends with status 1 if any comparison fails.
``python -m verification.run --help`` says what may be chosen.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rnn_core.arrays import device_name, resolve_device
from study.files.writing import written_aside
from study.provenance import provenance
from study.tables import store
from study.tables.columns import columns_of
from verification.cases import LENGTHS, Case, all_cases, is_real
from verification.oracles import Row, rows_of

Job = tuple[Case, str]  # a case and its device
MOST_FAILURES = 20  # that are listed


def start_process() -> None:
    """torch, too, takes one thread a process."""
    import torch

    torch.set_num_threads(1)


def verify(job: Job) -> list[Row]:
    """The rows of one case; what goes wrong says in which."""
    case, device = job
    try:
        return rows_of(case, device)
    except Exception as error:
        error.add_note(f"in the case {case.name}, seed {case.seed}, on {device}")
        raise


def verify_all(jobs: Sequence[Job], processes: int) -> list[Row]:
    """The rows of all cases."""
    if processes == 1:
        start_process()
        return _gathered(map(verify, jobs), len(jobs))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=start_process) as pool:
        return _gathered(pool.map(verify, jobs), len(jobs))


def _gathered(rows_by_case: Iterable[list[Row]], total: int) -> list[Row]:
    """All rows, with a line on stderr for every percent."""
    rows, start, percent = [], time.monotonic(), -1
    for count, rows_of_case in enumerate(rows_by_case, start=1):
        rows += rows_of_case
        if 100 * count // total > percent:
            percent = 100 * count // total
            failed = sum(row["passed"] is False for row in rows)
            line = f"{percent:3d} %  {count} of {total} cases, {time.monotonic() - start:.0f} s, {failed} failed"
            print(line, file=sys.stderr, flush=True)
    return rows


def failures(rows: Iterable[Row]) -> list[str]:
    """Every failure in a line, the worst first."""
    failed = sorted((row for row in rows if row["passed"] is False), key=lambda r: r["tolerance"] / r["relative_error"])
    return [
        f"{row['cell']}, {_place(row)}, {row['device']}: relative error {row['relative_error']:.3g} against {row['oracle']} at {row['where']}, "
        f"above the tolerance {row['tolerance']:g}"
        for row in failed
    ]


def _place(row: Row) -> str:
    """Which network of a cell a row is of."""
    layers = f"{row['layers']} layers, " if row["layers"] > 1 else ""
    return f"{row['activation']}, {layers}{row['regime']}, T = {row['sequence_length']}, loss at {row['loss_at']}"


def markdown(rows: Sequence[Row], settings: dict[str, Any]) -> str:
    """The summary for readers: one line a cell and oracle, and why oracles abstained."""
    compared = [row for row in rows if row["passed"] is not None]
    lines = ["# Verification of the engine", "", "Written by `make verify`; do not edit.", ""]
    lines += [f"{name}: {value}  " for name, value in settings.items()]
    lines += ["", f"{len(compared)} comparisons, {sum(not row['passed'] for row in compared)} failed, "]
    lines[-1] += f"{len(rows) - len(compared)} abstentions."
    lines += ["", "| cell | oracle | compared | failed | abstained | worst relative error | where | tolerance |"]
    lines += ["|---|---|---|---|---|---|---|---|", *_summary_lines(rows)]
    lines += ["", "## Abstentions", "", "| oracle | cases | why |", "|---|---|---|"]
    reasons = Counter((row["oracle"], row["where"]) for row in rows if row["passed"] is None)
    lines += [f"| {oracle} | {count} | {why} |" for (oracle, why), count in sorted(reasons.items())]
    return "\n".join([*lines, "", "## Growth", "", *_growth_lines(rows), ""])


def _summary_lines(rows: Sequence[Row]) -> Iterator[str]:
    def key(row: Row) -> tuple[str, str]:
        return row["oracle"], row["cell"]

    for (oracle, cell), rows_of_pair in itertools.groupby(sorted(rows, key=key), key):
        group = list(rows_of_pair)
        compared = [row for row in group if row["passed"] is not None]
        failed, abstained = sum(not row["passed"] for row in compared), len(group) - len(compared)
        line = f"| {cell} | {oracle} | {len(compared)} | {failed} | {abstained} | "
        if compared:
            worst = max(compared, key=lambda row: row["relative_error"])
            yield line + f"{worst['relative_error']:.2g} | {worst['where']}; {_place(worst)} | {worst['tolerance']:g} |"
        else:
            yield line + f"none | | {group[0]['tolerance']:g} |"


def _growth_lines(rows: Sequence[Row]) -> Iterator[str]:
    """How fast the gradients of each regime grow, and how many networks missed it."""
    yield "| regime | lowest rate | highest rate (ln per step) | networks outside the regime |"
    yield "|---|---|---|---|"
    networks = {
        (r["cell"], r["activation"], r["layers"], r["regime"], r["sequence_length"], r["loss_at"]): r for r in rows
    }
    for regime in sorted({row["regime"] for row in rows}):
        rates = [row["growth_rate"] for row in networks.values() if row["regime"] == regime]
        missed = sum(not is_real(regime, rate) for rate in rates)
        yield f"| {regime} | {min(rates):.3f} | {max(rates):.3f} | {missed} of {len(rates)} |"


def write(rows: Sequence[Row], folder: Path, settings: dict[str, Any], devices: Sequence[str]) -> None:
    """Table, summary and figure."""
    columns = {c.name: [row[c.name] for row in rows] for c in columns_of("verification")}
    table = folder / "engine_verification.parquet"
    origin = provenance({"study": "verification", **settings}, ", ".join(map(device_name, devices)))
    store.write(store.build("verification", columns), table, origin)
    with written_aside(table.with_suffix(".md")) as aside:
        aside.write_text(markdown(rows, settings), encoding="utf-8")
    from verification import figure  # plotting comes after measuring: its libraries start threads

    figure.save(table)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; what does not fit ends with a message and status 2."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--output", type=Path, default=Path("results/verify"), help="folder for table, summary and figure"
    )
    parser.add_argument("--lengths", type=_positive, nargs="+", default=list(LENGTHS), help="sequence lengths T")
    parser.add_argument("--seed", type=_natural, default=0, help="another seed draws other networks")
    parser.add_argument("--jobs", type=_positive, default=os.cpu_count() or 1, help="processes")
    return parser.parse_args(given)


def _positive(text: str) -> int:
    return _integer(text, 1)


def _natural(text: str) -> int:
    return _integer(text, 0)


def _integer(text: str, smallest: int) -> int:
    if not text.isdecimal() or int(text) < smallest:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; it must be a whole number, at least {smallest}")
    return int(text)


def main(given: Sequence[str] | None = None) -> int:
    options = arguments(given)
    lengths, devices = tuple(sorted(set(options.lengths))), sorted({"cpu", resolve_device("auto")})
    jobs = [(case, device) for case in all_cases(lengths, options.seed) for device in devices]
    print(
        f"{len(jobs)} networks against every oracle that applies, T up to {lengths[-1]}, on {options.jobs} processes; "
        f"the result will be in {options.output}",
        file=sys.stderr,
        flush=True,
    )
    rows = verify_all(jobs, options.jobs)
    write(rows, options.output, {"lengths": list(lengths), "seed": options.seed}, devices)
    failed = failures(rows)
    for line in failed[:MOST_FAILURES]:
        print(line, file=sys.stderr)
    abstained = sum(row["passed"] is None for row in rows)
    print(f"{len(rows) - abstained} comparisons, {len(failed)} failed; {abstained} abstentions. See {options.output}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
