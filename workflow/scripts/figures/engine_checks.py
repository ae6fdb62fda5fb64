"""How closely the engine agrees with independent programs: every check's worst relative error, and the tolerance."""

import re
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rnn_core import CELLS
from rnn_core.oracles import places
from study.own_cells.described import OF_STEPS
from study.report import drawing, layout, reader
from study.report import style as figure_style
from study.report.findings import Study
from study.report.sentences.checks import (
    EXACT,
    HOLDS,
    IDENTITY,
    LEFT_OUT,
    NOT_FINITE,
    WITHIN,
    left_out_words,
    verdicts,
)
from study.report.words import in_order, listed, marked, marked_count, number, percent, plural
from study.settings import steps_of

NOTHING = drawing.Nothing(
    "No comparison of the engine with an independent program is recorded.",
    "The gate compares the engine with PyTorch before every study; its table of checks is empty here. Set gate: "
    "checked_runs_per_job: 1 or more, too.",
)
STAGES = {"gate": (-0.16, "full: gate, before any table"), "sweep": (0.16, "open: runs of the sweeps, checked again")}
MARKS = {"vanishing": "v", "stable": "o", "exploding": "^"}
UNKNOWN, ONE_STEP = "not a number", "one step"  # where there is no regime
ALL_MARKS = {**MARKS, ONE_STEP: "D", UNKNOWN: "X"}
ROW = ["program", "network"]
ABOVE = 2.4  # rows above the first that are for labels, where no dot can be


def frame(tables: reader.Tables) -> pd.DataFrame:
    """One row a check, with its ``program`` and its ``network`` (cell and activation, as they vary; a vanilla network alone has no cell's name).

    ``verdict`` says what it came to. Results that neither program finds finite, and checks that were left out, have no error.
    """
    settings = [
        "stage",
        "oracle",
        "run_key",
        "task",
        "cell",
        "activation",
        "spectral_radius",
        "sequence_length",
        "dtype",
    ]
    data = tables.read("checks", [*settings, "update", "regime", "relative_error", "where", "tolerance"])
    data["of_steps"] = bool(data["oracle"].isin(OF_STEPS).any())
    data = data[~data["oracle"].isin(OF_STEPS)]  # nothing there is the engine's
    if data.empty:
        return pd.DataFrame()
    steps = [steps_of(task, length) for task, length in zip(data["task"], data["sequence_length"], strict=True)]
    data["regime"] = data["regime"].fillna(UNKNOWN).mask(np.array(steps) == 1, ONE_STEP)
    data["program"] = data["oracle"]
    cell, activation = data["cell"], data["activation"]
    several = cell.nunique() > 1, activation.nunique() > 1
    both = (cell + ", " + activation).fillna(cell)  # a user's own cell has no activation that the study knows
    alone = activation.fillna(cell) if set(cell) == {"vanilla"} else both
    data["network"] = both if all(several) else cell if several[0] else alone
    data["verdict"] = verdicts(data)
    order = ["dtype", "program", "network", "stage", "regime", "relative_error"]
    return data.sort_values(order, ignore_index=True)


# ---- facts


def facts(data: pd.DataFrame, study: Study) -> drawing.Facts:
    if data.empty:
        return NOTHING.facts()
    known = data.dropna(subset=["relative_error"])
    verdict = data["verdict"]
    shown = [
        *(["spectra"] if _of_spectra(data).any() else []),
        *(["modules"] if data["oracle"].str.startswith("torch.nn.").any() else []),
        *(stage for stage in STAGES if (data["stage"] == stage).any()),
        *(name for name in (EXACT, WITHIN, HOLDS) if (verdict == name).any()),
        *(["unmarked"] if len(known.drop_duplicates(ROW)) < len(data.drop_duplicates(ROW)) else []),
        *(["regimes"] if data["regime"].isin(list(MARKS)).any() else []),
        *(["one step"] if (data["regime"] == ONE_STEP).any() else []),
        *(["equations"] if data["cell"].isin(list(CELLS)).any() else []),
        *(["own"] if not data["cell"].isin(list(CELLS)).all() else []),
        *(["steps"] if data["of_steps"].any() else []),
        *(["training"] if (data.loc[data["stage"] == "sweep", "update"] > 0).any() else []),
    ]
    claims = [
        *([_worst(known)] if (known["relative_error"] > 0).any() else []),
        *_counts(verdict),
        left_out_words(data),
    ]
    title = _title(data, known)
    alt = f"Dot plot of relative errors on a logarithmic axis, by program and network, with the tolerance and machine ε. {title}"
    return drawing.facts(title, alt, claims, shown)


def _counts(verdict: pd.Series) -> list[str]:
    """Of how many comparisons there is no error to tell, and why."""
    said = {
        NOT_FINITE: ("In {} of them neither program found a finite result.", "checks_without_error"),
        EXACT: ("{} of them agreed to the last bit.", "checks_exact"),
        WITHIN: ("In {} of them the difference is no more than rounding explains.", "checks_within_rounding"),
        HOLDS: ("In {} of them a ratio of norms only has to stay below a bound, and does.", "checks_that_hold"),
    }
    counts = {name: int((verdict == name).sum()) for name in said}
    return [text.format(marked_count(counts[name], kind)) for name, (text, kind) in said.items() if counts[name]]


def _title(data: pd.DataFrame, known: pd.DataFrame) -> str:
    data = data[data["verdict"] != LEFT_OUT]
    if data.empty:
        return "No check of this study could be made."
    only_one = len(data) == 1
    compared = f"{marked_count(len(data), 'checks')} comparison{'' if only_one else 's'} with PyTorch"
    if _of_spectra(data).any():
        compared += " and with exact identities"
    if known.empty:
        return (
            f"In {'the only comparison' if only_one else f'none of {compared}'} was there a finite result to compare."
        )
    share = known["relative_error"] / known["tolerance"]
    failed, largest = int((share > 1).sum()), float(known["relative_error"].max())
    error = marked(number(largest, 2), "largest_error", largest)
    if failed:
        exceed = "exceeds" if failed == 1 else "exceed"
        return f"{marked_count(failed, 'checks_failed')} of {compared} {exceed} the tolerance; the largest relative error is {error}."
    if share.max() == 0:
        how = "to the last bit" if (known["verdict"] == EXACT).all() else "within rounding"
        return f"{compared} agrees {how}." if only_one else f"All of {compared} agree {how}."
    which = "The" if only_one else "The largest"
    if known["tolerance"].nunique() == 1:
        times = marked(number(1 / share.max(), 2), "tolerance_over_error", 1 / share.max())
        return f"{which} relative error in {compared} is {error}; the tolerance is {times} times larger."
    share_of_tolerance = percent(share.max()) if share.max() >= 0.01 else f"{number(100 * share.max(), 1)} %"
    return f"{which} error in {compared} is {marked(share_of_tolerance, 'error_over_tolerance', share.max())} of what is allowed."


def _nearest(known: pd.DataFrame) -> pd.Series:
    """The check that comes nearest to its tolerance."""
    return known.loc[(known["relative_error"] / known["tolerance"]).idxmax()]


def _worst(known: pd.DataFrame) -> str:
    row = _nearest(known)
    own = row["cell"] not in CELLS
    vanilla = set(known["cell"]) == {"vanilla"}
    network = row["cell"] if own else row["activation"] if vanilla else f"{row['cell']} ({row['activation']})"
    error = marked(number(row["relative_error"], 2), "nearest_error", row["relative_error"])
    identity = row["oracle"].startswith(IDENTITY)
    against = "" if identity else f", against {row['oracle']}"
    what = f"the spectra's {row['oracle'].removeprefix(IDENTITY)}" if identity else _compared(str(row["where"]))
    settings = [
        f"{name} = {marked(number(row[axis]), 'setting', row[axis], axis=axis)}"
        for name, axis in (("ρ", "spectral_radius"), ("T", "sequence_length"))
        if pd.notna(row[axis])
    ]
    return (
        f"{'Nearest to its tolerance is' if len(known) > 1 else 'The error is'} {error}: {what}, of {network} at "
        f"{listed(settings)}{against}."
    )


def _of_spectra(data: pd.DataFrame) -> pd.Series:
    """Which checks are exact identities of spectra."""
    return data["oracle"].str.startswith(IDENTITY)


def _compared(where: str) -> str:
    """What the checks' table calls ``x, t = 12, layer 2, forward``, in words."""
    place = places.read(where)
    of_layer = f" of layer {marked(str(place.layer), 'nearest_layer', float(place.layer))}" if place.layer else ""
    of_way = f" in its {place.way.partition(' ')[0]} direction" if place.way else ""
    own_time = ", in that direction's own time" if place.way == places.WAYS[1] else ""
    step = f", at t = {marked(str(place.step), 'nearest_step', float(place.step))}{own_time}" if place.step else ""
    return f"{_result(place.what)}{of_layer}{of_way}{step}"


WHOLE = {
    "loss": "the loss",
    "output": "the network's output",
    "dL/dy": "the gradient with respect to the output",
    "Ω": "the penalty Ω",
    "∂Ω/∂W_hh": "the gradient of the penalty Ω with respect to weight_hh",
}
FORMS = (  # of names that are more than a name, in the order in which they are tried
    (r"log_norm of (.+)", "the logarithmic norm of the gradient with respect to {}"),
    (r"direct part of (.+)", "the direct part of the gradient with respect to {}"),
    (r"state (.+)|(.+) of the state", "{}"),
    (r"initial state, (.+)|dL/d\((.+) before the first step\)", "the gradient with respect to the initial {}"),
)
STATES = {"x": "the input x", "hidden": "the hidden state", "cell": "the cell state", "normaliser": "the normaliser"}


def _result(what: str) -> str:
    """The result of the engine that ``what`` names: most names are of what a gradient is taken with respect to."""
    if what in WHOLE or what.startswith("a result "):
        return WHOLE.get(what, what)
    for form, words in FORMS:
        if named := re.fullmatch(form, what):
            part = next(filter(None, named.groups()))
            called = STATES.get(part, f"the state {part}")
            return words.format(called.removeprefix("the ") if "initial" in words else called)
    return f"the gradient with respect to {STATES.get(what, what)}"


# ---- drawing


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    dtypes = list(data["dtype"].unique())
    rows = {dtype: _rows(data[data["dtype"] == dtype]) for dtype in dtypes}
    most = max(map(len, rows.values()))
    columns = min(len(dtypes), layout.columns(2))
    height = 0.9 + (0.29 if most <= 24 else 0.22) * (most + ABOVE)
    figure, axes = layout.grid(len(dtypes), columns, height, extra=1.0, sharex=False)
    for ax, dtype in zip(axes, dtypes, strict=True):
        checks = data[data["dtype"] == dtype]
        _panel(ax, checks, rows[dtype])
        if len(dtypes) > 1:
            layout.panel_title(ax, dtype, 40)
    layout.label_below(
        axes, columns, "worst relative error" + ("" if layout.on_phone() else " over all steps and parameters")
    )
    layout.legend_below(figure, _legend(data), most=3)
    return figure


Row = tuple[str, str]  # program and network; a program's heading has no network


def _rows(checks: pd.DataFrame) -> list[Row]:
    """From above: a heading for every program, and below it its networks, cells from the simplest."""
    rows: list[Row] = []
    for program, of_program in checks.groupby("program", sort=True):
        rows.append((str(program), ""))
        rows += [
            (str(program), name) for name in in_order(of_program, ["cell", "activation"])["network"].drop_duplicates()
        ]
    return rows


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """From below the rounding error of a type to above its tolerance."""
    errors = rows.loc[rows["relative_error"] > 0, "relative_error"]
    return min([*errors, _epsilon(rows)]) / 24, max([*errors, *rows["tolerance"]]) * 4


def _epsilon(rows: pd.DataFrame) -> float:
    return float(np.finfo(rows["dtype"].iloc[0]).eps)


def _panel(ax: Axes, checks: pd.DataFrame, rows: list[Row]) -> None:
    low, high = _limits(checks)
    ax.set(xscale="log", xlim=(low, high), ylim=(len(rows) - 0.4, -0.5 - ABOVE))
    ax.set_yticks([i for i, (_, network) in enumerate(rows) if network], [network for _, network in rows if network])
    ax.tick_params(axis="y", length=0)
    for i, (program, network) in enumerate(rows):
        if network:
            ax.axhline(i, color="#eeeeee", lw=0.8, zorder=0)
        else:
            ax.text(0.01, i + 0.1, f"{program}: {_heading(checks[checks['program'] == program])}", transform=ax.get_yaxis_transform(), va="center", fontsize=9.5,
                    fontweight="bold", gid="program", bbox={"facecolor": "white", "lw": 0, "pad": 1.5}, zorder=2.5)  # fmt: skip
    _limits_drawn(ax, checks, len(rows))
    _dots(ax, checks, rows, low * 3)
    _name_worst(ax, checks, rows)


def _heading(checks: pd.DataFrame) -> str:
    """How many comparisons a program has, and how many of its checks have no mark."""
    out, neither = (int((checks["verdict"] == name).sum()) for name in (LEFT_OUT, NOT_FINITE))
    made = [plural(len(checks) - out, "comparison")] if out < len(checks) else []
    return ", ".join([*made, *([f"{neither} not finite"] if neither else []), *([f"{out} left out"] if out else [])])


def _limits_drawn(ax: Axes, checks: pd.DataFrame, count: int) -> None:
    """Tolerance and rounding error, named above all dots."""
    for value in checks["tolerance"].unique():
        ax.plot([value, value], [-ABOVE - 0.2, count], color="#b2001d", lw=2, gid="tolerance")
        ax.text(value, -ABOVE + 0.2, "tolerance ", ha="right", va="center", color="#b2001d", fontsize=9.5)
    ax.plot([_epsilon(checks)] * 2, [-ABOVE - 0.2, count], color=figure_style.FAINT, lw=1.2, ls=":", gid="epsilon")
    ax.text(_epsilon(checks), -ABOVE + 0.2, " machine ε", ha="left", va="center", color="#666666", fontsize=9.5)


def _dots(ax: Axes, checks: pd.DataFrame, rows: list[Row], zero: float) -> None:
    """Regimes by colour and marker; the gate full, the sweeps open and a little lower."""
    x = checks["relative_error"].mask(checks["relative_error"] == 0, zero)
    place = pd.Series(list(zip(checks["program"], checks["network"], strict=True)), index=checks.index).map(rows.index)
    for stage, (offset, _) in STAGES.items():
        for regime, marker in ALL_MARKS.items():
            chosen = (checks["stage"] == stage) & (checks["regime"] == regime)
            if chosen.any():
                colour = figure_style.REGIME_COLOURS.get(regime, figure_style.FAINT)
                style: dict[str, Any] = {"facecolors": colour if stage == "gate" else "none", "edgecolors": colour}
                ax.scatter(
                    x[chosen], place[chosen] + offset, marker=marker, s=36, linewidths=1.1, gid=stage, zorder=3, **style
                )


def _name_worst(ax: Axes, checks: pd.DataFrame, rows: list[Row]) -> None:
    """A ring around the check that comes nearest to its tolerance, and its number above all dots."""
    known = checks[checks["relative_error"] > 0]
    if known.empty:
        return
    row = _nearest(known)
    x, y = row["relative_error"], rows.index((row["program"], row["network"])) + STAGES[row["stage"]][0]
    left, right = np.log(ax.get_xlim())
    side = "left" if (np.log(x) - left) / (right - left) < 0.5 else "right"
    ax.plot([x, x], [-1.15, y - 0.3], color=figure_style.INK, lw=0.8, zorder=1, gid="worst line")
    ax.plot([x], [y], marker="o", ms=11, mfc="none", mec=figure_style.INK, mew=1.2, ls="", zorder=4, gid="worst")
    text = f" worst {number(x, 2)}" if side == "left" else f"worst {number(x, 2)} "
    ax.text(x, -1.5, text, ha=side, va="center", fontsize=10, fontweight="bold", gid="worst name")


def _legend(data: pd.DataFrame) -> list[Line2D]:
    """Only what is drawn."""
    regimes = [
        Line2D(
            [],
            [],
            ls="",
            marker=marker,
            ms=7,
            color=figure_style.REGIME_COLOURS.get(name, figure_style.FAINT),
            label=_called(name),
        )
        for name, marker in ALL_MARKS.items()
        if (data["regime"] == name).any()
    ]
    stages = [
        Line2D(
            [],
            [],
            ls="",
            marker="s",
            ms=6,
            mec=figure_style.INK,
            mfc=figure_style.INK if stage == "gate" else "none",
            label=label,
        )
        for stage, (_, label) in STAGES.items()
        if (data["stage"] == stage).any()
    ]
    zero = (
        "exactly 0" if set(data.loc[data["relative_error"] == 0, "verdict"]) == {EXACT} else "no error beyond rounding"
    )
    leftmost = [Line2D([], [], ls="", label=f"leftmost: {zero}")] if (data["relative_error"] == 0).any() else []
    return [*regimes, *stages, *leftmost]


def _called(regime: str) -> str:
    without = {UNKNOWN: "gradient is not a number", ONE_STEP: "one step, no way back"}
    return without.get(regime, f"{regime} gradient")
