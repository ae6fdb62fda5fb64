"""What the page tells besides findings and figures: the checks, the time, an example run, and how it was measured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from rnn_core import CELLS
from rnn_core.clipping import WHAT_RULES_DO
from rnn_core.experiment import SEPARATOR, WITHOUT_MATRIX
from rnn_core.tasks import GENERATED
from study.config.idle import about_numbers
from study.report import measures, statistics
from study.report.findings import Study
from study.report.phrases import counted
from study.report.sentences.checks import LEFT_OUT, NOT_FINITE, verdicts
from study.report.sentences.prediction import with_dynamic_theory
from study.report.words import listed, marked, marked_count, number, spelled
from study.screen import progress
from study.settings import axis_defaults, described_axes

RESULTS = {
    "held_out_accuracy": "accuracy on held-out sequences",
    "held_out_loss": "loss on held-out sequences (smaller is better)",
}


def check_summary(checks: pd.DataFrame) -> list[dict[str, Any]]:
    """Worst relative error by stage, oracle and dtype."""
    rows = []
    for (stage, oracle, dtype), group in checks.groupby(["stage", "oracle", "dtype"], sort=True):
        finite, verdict = group["relative_error"].dropna(), verdicts(group)
        worst = group.loc[finite.idxmax()] if len(finite) else None
        rows.append(
            {
                "stage": stage,
                "oracle": oracle,
                "dtype": dtype,
                "count": len(group),
                "nonfinite": int((verdict == NOT_FINITE).sum()),
                "left_out": int((verdict == LEFT_OUT).sum()),
                "worst": None if worst is None else float(worst["relative_error"]),
                "where": "" if worst is None else _where(worst),
                "tolerance": float(group["tolerance"].iloc[0]),
            }
        )
    return rows


def _where(row: pd.Series) -> str:
    network = row["activation"] if row["cell"] == "vanilla" else row["cell"]
    if row["cell"] in CELLS:
        network += "" if row["cell"] == "vanilla" else f", {row['activation']}"
        as_drawn = "" if row["cell"] in WITHOUT_MATRIX else ", W_hh as drawn"
        network += as_drawn if pd.isna(row["spectral_radius"]) else f", ρ = {row['spectral_radius']:g}"
    return f"{network}, T = {row['sequence_length']}: {row['where']}"


def time_spent(timings: pd.DataFrame) -> list[dict[str, Any]]:
    """Seconds in the engine and in verification, by sweep."""
    rows = []
    for sweep, group in timings.groupby("sweep", sort=False):
        rows.append(
            {
                "sweep": sweep,
                "runs": len(group),
                "seconds": float(group["seconds"].sum()),
                "per_run": float(group["seconds"].median()),
                "slowest": float(group["seconds"].max()),
                "verify": float(group["verify_seconds"].sum()),
            }
        )
    return rows


def share_of_time(logs: Path) -> list[dict[str, Any]]:
    """Where the cores' time went until now, in the call of Snakemake that renders this page."""
    return [{"part": part, "seconds": seconds, "share": share} for part, seconds, share in progress.spent(logs)]


def example_run(runs: pd.DataFrame, study: str) -> str:
    """Code that makes a run of the study again, in the project's top folder: for the paragraph on tracing a point back."""
    simple = (
        runs["task"].isin(list(GENERATED)),
        runs["cell"].isin(list(CELLS)),
    )  # these need nothing to be prepared again
    known = [runs[simple[0] & simple[1]], runs[simple[0]], runs]
    row = next(rows for rows in known if len(rows)).iloc[0]
    described, chosen = described_axes(), {}
    for name, default in axis_defaults().items():
        value = row[name].item() if hasattr(row[name], "item") else row[name]
        if value != default and not pd.isna(value):
            kind = {"integer": int, "flag": bool}.get(
                described[name]["kind"]
            )  # pandas makes those floats where some are null
            chosen[name] = kind(value) if kind else value
    data, own = row["task"] not in GENERATED, row["cell"] not in CELLS
    given = f"experiment = rc.Experiment({', '.join(f'{name}={value!r}' for name, value in chosen.items())})"
    return "\n".join([*_imports(data, own), "", *_prepared(row, study, data, own, given)])


def _imports(data: bool, own: bool) -> list[str]:
    """What the study's own files are read with is no package that is installed."""
    if not (data or own):
        return ["import rnn_core as rc"]
    lines = ["import sys", "", "import rnn_core as rc", "", 'sys.path.insert(0, "workflow/scripts")']
    lines += ["from study.data import task_file"] if data else []
    return lines + (["from study.own_cells import loading"] if own else [])


def _prepared(row: pd.Series, study: str, data: bool, own: bool, given: str) -> list[str]:
    """``given`` is the line that makes the experiment."""
    cell = f"results/{study}/cells/{row['cell'].partition(SEPARATOR)[0]}.json"
    lines = [f'loading.register_all(["{cell}"])  # this runs the code of the cell\'s file'] if own else []
    lines.append(given)
    if not data:
        return [
            *lines,
            f'assert experiment.key == "{row["run_key"]}"',
            "problem = rc.prepare(experiment)  # parameters and batches",
        ]
    return [
        *lines,
        f'data = rc.Sequences(**task_file.load("results/{study}/sequences/{row["task"]}.npz"))',
        f'assert experiment.key_with(data.digest) == "{row["run_key"]}"',
        "problem = rc.prepare(experiment, data)  # parameters and batches",
    ]


def _turning(study: Study) -> str:
    """The symbols of what scales W_hh, in the sweeps that are set out along it."""
    columns = [part.column for part in study.parts if not part.trains and part.column in measures.SCALES]
    return listed(dict.fromkeys(map(measures.symbol_of, columns)) or [""])


def _clipped(study: Study) -> list[str]:
    """What the clipping rules of the study do, each in a sentence."""
    used = set(study.runs["clipping"].str.partition(":")[0])
    return [f"The rule {rule} {words}." for rule, words in WHAT_RULES_DO.items() if rule in used]


def _window(networks: pd.DataFrame) -> dict[str, str]:
    """The steps of the longest sequences, and there the settled window in the median of the networks; empty where no rate is measured."""
    window = measures.window(networks) if len(networks) else None
    if window is None:
        return {}
    where = {"task_steps": window.steps}
    return {
        "steps": marked_count(window.steps, "task_steps", **where),
        "first": marked(number(window.first), "settled_from", window.first, **where),
        "last": marked(number(window.last), "settled_to", window.last, **where),
        "median": " in the median of the networks" if window.networks > 1 else "",
    }


def _networks(count: int, kind: str) -> str:
    """1 network, 12 networks; empty of none."""
    return counted(count, "network", marked_count(count, kind)) if count else ""


def notes_of(config: Mapping[str, Any], data: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the plan noted about settings and data, as far as it says what the numbers mean.

    Args:
        config: of the study.
        data: by task, what was written about its sequences: ``report`` and ``warnings``.
    """
    of_data = [
        f"Sequences of {task}: {line}" for task, facts in data.items() for line in [*_early(facts), *facts["warnings"]]
    ]
    return [f"{_in_words(note)}." for note in [*about_numbers(config), *of_data]]


def _early(facts: Mapping[str, Any]) -> list[str]:
    """What was written about sequences that end before others."""
    return [line for line in facts["report"] if "end earlier" in line]


def _in_words(note: str) -> str:
    """Sweep ours, clipping: …, instead of the path of a key in the config."""
    return re.sub(
        r"^sweeps\.([^.:]+)(?:\.grid)?(?:\.(\w+))?:",
        lambda key: f"Sweep {key[1]}{f', {key[2]}' if key[2] else ''}:",
        note,
    )


def _theory_unsettled(study: Study, unpredicted: int) -> str:
    """Of how many networks without a prediction the sample of dynamic mean field does not settle: all of them, or how many."""
    if not study.sampled:
        return ""
    without = study.networks[study.networks["predicted_by"].isna() & (study.networks["layers"] == 1)]
    count = int(with_dynamic_theory(without).sum())
    number_of = marked_count(count, "theory_unsettled")
    return "" if not count else "all" if count == unpredicted else f"{number_of} of them"


def how_measured(study: Study, data: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> dict[str, Any]:
    """What the page says of window, ruler and tests: only of what this study has.

    Args:
        data: as in ``notes_of``.
    """
    networks = study.networks
    partly_dead = len(measures.partly_dead(networks))
    unsettled = len(measures.never_settled(networks))
    unpredicted = int(networks["predicted_by"].isna().sum())
    bistable = int((networks["bistable"] == True).sum())  # noqa: E712  (the column has nulls)
    runs = study.all_runs
    one_step = len(measures.distinct_starts(runs[measures.steps(runs) == 1]))
    return {
        "networks": len(networks),
        "own_cells": sorted({cell.partition(SEPARATOR)[0] for cell in study.all_runs["cell"] if cell not in CELLS}),
        "one_step": marked_count(one_step, "starts_of_one_step") if one_step else "",
        "ends_apart": bool(networks["task"].isin([task for task, facts in data.items() if _early(facts)]).any()),
        "built_in": bool(study.all_runs["cell"].isin(list(CELLS)).any()),
        "window": _window(networks),
        "rulers": [
            name
            for name in ("linear law", "operating point", "mean field", "dynamic mean field", "law at rest")
            if (networks["predicted_by"] == name).any()
        ],
        "bistable": _networks(bistable, "bistable"),
        "dead": _networks(partly_dead, "with_dead_samples"),
        "several": study.tests > 1,
        "linear": bool(measures.is_linear(networks).any()),
        "unsettled": _networks(unsettled, "never_settled"),
        "unpredicted": _networks(unpredicted, "unpredicted"),
        "theory_unsettled": _theory_unsettled(study, unpredicted),
        "bidirectional": bool((runs["bidirectional"] == True).any()),  # noqa: E712  (a study's own cells have nulls)
        "turning": _turning(study),
        "breakdowns": any(
            part.trains and part.runs["broken"].any() and not part.runs["broken"].all() for part in study.parts
        ),
        "clipped": _clipped(study),
        "worst": spelled(int(measures.WORST)),
        "results": listed(
            [
                words
                for metric, words in RESULTS.items()
                if any((part.runs["metric"] == metric).any() for part in study.parts if part.trains)
            ]
            or [""]
        ),
        "tests": marked_count(study.tests, "tests") if study.tests else "",
        "fewest": spelled(statistics.FEWEST_SEEDS),
        "level": statistics.LEVEL,
    }
