"""The gradient's growth per step against spectral radius, beside prediction, linear law and bound; and the "
"deviation."""

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import study_figures as sf
import study_tables
from study_verdicts import crossings

NOTHING = sf.Nothing(
    "No run of this study has a growth rate.",
    "Add a sweep with several values of spectral_radius and a sequence_length of 2 or more.",
)
MEASURED, PREDICTED, LINEAR, BOUND = "#D55E00", "#0072B2", "#222222", "#8a8a8a"
ROUNDING = 1e-9
COLUMNS = 4
GROUP = ["panel", "spectral_radius", "sequence_length"]


def frame(tables: sf.Tables) -> pd.DataFrame:
    """Panel × spectral radius at the longest T: means over seeds of the growth rate, its deviation and its theories.

    The errors are standard deviations over seeds; of a single seed, the standard error over time. Seeds whose gradient
    is exactly zero (``zeros``) or not a number (``broken``) are not in the means. ``above_bound``: runs beyond it.
    """
    theory = ("linear_rate", "predicted_rate", "bound_rate")
    runs = sf.starts(tables.runs("growth_rate", "growth_rate_error", "deviation", *theory))
    if runs.empty:
        return pd.DataFrame()
    runs = sf.longest(sf.panels(runs, "activation", ("spectral_radius", "sequence_length", "seed")))
    rate = runs["growth_rate"]
    runs = runs.assign(
        zero=rate == -np.inf,
        known=rate.where(np.isfinite(rate)),
        deviation=runs["deviation"].where(np.isfinite(runs["deviation"])),
        above_bound=rate > runs["bound_rate"] + ROUNDING,
    )
    found = runs.groupby(GROUP, observed=True, as_index=False).agg(
        measured=("known", "mean"), error=("known", "std"), finite=("known", "count"),
        over_time=("growth_rate_error", "mean"),
        deviation=("deviation", "mean"), deviation_error=("deviation", "std"), above_bound=("above_bound", "sum"),
        linear=("linear_rate", "mean"), predicted=("predicted_rate", "mean"), bound=("bound_rate", "mean"),
        seeds=("run_key", "size"), zeros=("zero", "sum"), left_out=("left_out", "first"),
    )  # fmt: skip
    found["broken"] = found["seeds"] - found["finite"] - found["zeros"]
    for error in ("error", "deviation_error"):
        found[error] = found[error].fillna(found["over_time"])
    return found.drop(columns=["over_time", "finite"])


def critical_radii(rows: pd.DataFrame) -> list[float]:
    """Where the measured rate of one panel crosses zero, by straight lines between neighbouring radii."""
    rows = rows.dropna(subset=["measured"]).sort_values("spectral_radius")
    return crossings(rows["spectral_radius"].to_numpy(), rows["measured"].to_numpy())


def facts(data: pd.DataFrame) -> sf.Facts:
    if data.empty:
        return NOTHING.facts()
    groups = {str(panel): rows for panel, rows in data.groupby("panel", observed=True)}
    crossings = {panel: critical_radii(rows) for panel, rows in groups.items()}
    title = _title(groups, crossings)
    worst = data.dropna(subset=["deviation"])
    numbers = {"T": sf.listed(sorted({str(T) for T in data["sequence_length"]})), "seeds": str(data["seeds"].max())}
    numbers |= {
        f"critical_{panel}": sf.listed(f"{radius:.2f}" for radius in found)
        for panel, found in crossings.items()
        if found
    }
    claims = {"bound": _bound(data), "left_out": sf.left_out(data), "seeds": _errors(data)}
    if len(worst):
        row = worst.loc[worst["deviation"].abs().idxmax()]
        decades = row["deviation"] * (row["sequence_length"] - 1) / np.log(10)
        numbers["worst_deviation"] = sf.signed(row["deviation"], 2)
        claims["deviation"] = (
            f"The largest deviation from the prediction is {sf.signed(row['deviation'], 2)} a step "
            f"({row['panel']}, ρ = "
            f"{sf.number(row['spectral_radius'])}): {sf.signed(decades, 2)} decades over {row['sequence_length']} "
            "steps."
        )
        claims["systematic"] = _systematic(groups)
    if data["zeros"].any() or data["broken"].any():
        claims["zeros"] = (
            f"Not in the means: {sf.plural(int(data['zeros'].sum()), 'run')} with a gradient of exactly zero, "
            f"{sf.plural(int(data['broken'].sum()), 'run')} without a number."
        )
    alt = (
        f"Charts, one for each of {sf.listed(groups)}: growth rate of the gradient per step back against spectral "
        "radius, with "
        f"the prediction, the linear law and the upper bound as lines; below, measured minus predicted. {title}"
    )
    return sf.facts(title, alt, numbers, claims)


def _title(groups: dict[str, pd.DataFrame], crossings: dict[str, list[float]]) -> str:
    """Which panels cross zero and where; which never do."""
    crossing = [f"{found[0]:.2f} ({panel})" for panel, found in crossings.items() if found]
    never = {panel: rows["measured"].dropna() for panel, rows in groups.items() if not crossings[panel]}
    vanish = [panel for panel, rates in never.items() if len(rates) and rates.max() < 0]
    explode = [panel for panel, rates in never.items() if len(rates) and rates.min() > 0]
    parts = [f"neither shrink nor grow at ρ = {_few(crossing)}"] if crossing else []
    parts += [f"shrink at every ρ tried for {_few(vanish)}"] if vanish else []
    parts += [f"grow at every ρ tried for {_few(explode)}"] if explode else []
    return f"Gradients {'; they '.join(parts) or 'have no finite growth rate'}."


def _few(words: list[str], most: int = 4) -> str:
    """All of them, or the first ones and how many more."""
    return sf.listed(words if len(words) <= most else [*words[: most - 1], f"{len(words) - most + 1} more"])


def _systematic(groups: dict[str, pd.DataFrame]) -> str:
    """Panels whose deviation exceeds its bar at every radius, always in the same direction."""
    found = []
    for panel, rows in groups.items():
        known = rows.dropna(subset=["deviation", "deviation_error"])
        one_sign = known["deviation"].gt(0).all() or known["deviation"].lt(0).all()
        if len(known) > 2 and one_sign and (known["deviation"].abs() > known["deviation_error"]).all():
            found.append(panel)
    if not found:
        return ""
    where = f"at every ρ for {_few(found)}"
    return f"The deviation has one sign and exceeds its bar {where}, which points to a systematic difference."


def _bound(data: pd.DataFrame) -> str:
    above, runs = int(data["above_bound"].sum()), int(data["seeds"].sum())
    return f"{'No' if above == 0 else above} run of {runs} lies above the upper bound."


def _errors(data: pd.DataFrame) -> str:
    if data["seeds"].max() > 1:
        return "Bars: one standard deviation over the seeds."
    return "There is one seed; bars: the standard error over time."


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    names = list(data["panel"].cat.categories)
    figure, pairs = sf.stacked_grid(len(names), COLUMNS, (3, 1.25), 4.7)
    for (upper, lower), name in zip(pairs, names, strict=True):
        _panel(upper, lower, data[data["panel"] == name])
        sf.panel_title(upper, name, 18)
        upper.tick_params(labelbottom=False)
        lower.set_xlim(upper.get_xlim())
        lower.set_xlabel(study_tables.label("spectral_radius") + "\n(largest |eigenvalue|)")
    sf.share_y([upper for upper, _ in pairs], COLUMNS, "growth rate per step back\n(change of ln ‖∂L/∂h‖)")
    sf.share_y([lower for _, lower in pairs], COLUMNS, "measured −\npredicted")
    figure.legend(handles=_legend(data), loc="outside lower center", ncols=2)
    return figure


def _panel(upper: Axes, lower: Axes, rows: pd.DataFrame) -> None:
    rho = rows["spectral_radius"]
    single: dict[str, Any] = {"marker": "_", "ms": 14} if len(rows) == 1 else {}
    upper.axhline(0.0, color="#444444", lw=0.8, zorder=0)
    upper.plot(rho, rows["bound"], color=BOUND, ls=":", lw=2.0, gid="bound", **single)
    upper.plot(rho, rows["linear"], color=LINEAR, ls=(0, (4, 2)), lw=1.3, gid="linear", **single)
    upper.plot(rho, rows["predicted"], color=PREDICTED, lw=2.0, gid="predicted", **single)
    style: dict[str, Any] = {"fmt": "o", "ms": 5.5, "color": MEASURED, "elinewidth": 1.4, "capsize": 2.5}
    upper.errorbar(rho, rows["measured"], rows["error"].fillna(0.0), **style).lines[0].set_gid("measured")
    for radius in critical_radii(rows)[:2]:
        upper.plot([radius], [0.0], marker="D", ms=8, mfc="none", mec=sf.INK, mew=1.6, ls="", gid="critical", zorder=5)
        place: dict[str, Any] = {"xytext": (0, -9), "textcoords": "offset points", "ha": "center", "va": "top"}
        text = upper.annotate(f"{radius:.2f}", (radius, 0.0), fontsize=10, fontweight="bold", **place)
        text.set_bbox({"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 0.6})
    upper.margins(y=0.1)
    lower.axhline(0.0, color=PREDICTED, lw=1.6, zorder=0)
    if rows["deviation"].notna().any():
        lower.errorbar(rho, rows["deviation"], rows["deviation_error"].fillna(0.0), **style).lines[0].set_gid(
            "deviation"
        )
    else:
        words = textwrap.fill("no prediction for this initializer", 20)
        lower.text(0.5, 0.5, words, transform=lower.transAxes, ha="center", va="center", fontsize=9, color="#666666")
    if rows["zeros"].any():
        zero = rows.loc[rows["zeros"] > 0, "spectral_radius"]
        upper.plot(zero, [0.03] * len(zero), "v", color=MEASURED, transform=upper.get_xaxis_transform(), gid="zero")


def _legend(data: pd.DataFrame) -> list[Line2D]:
    seeds = int(data["seeds"].max())
    bars = f"{seeds} seeds, mean ± standard deviation" if seeds > 1 else "one seed ± error over time"
    T = data["sequence_length"].max()
    handles = [
        Line2D([], [], color=MEASURED, marker="o", ls="", ms=6, label=f"measured, T = {T}: {bars}"),
        Line2D([], [], color=PREDICTED, lw=2, label="predicted: mean field ½ ln χ₁ (identity: ln ρ)"),
        Line2D([], [], color=LINEAR, ls=(0, (4, 2)), lw=1.3, label="linear law ln ρ"),
        Line2D(
            [],
            [],
            color=BOUND,
            ls=":",
            lw=2,
            label=r"upper bound $\ln(\gamma\,\sigma_{\max})$; $\sigma_{\max}$: largest singular value",
        ),
        Line2D(
            [], [], color=sf.INK, marker="D", mfc="none", mew=1.6, ms=7, ls="", label="critical ρ: measured rate is 0"
        ),
    ]
    zero = Line2D([], [], color=MEASURED, marker="v", ls="", ms=6, label="a seed’s gradient is exactly 0")
    return [*handles, zero] if data["zeros"].any() else handles


def main(snakemake: Any) -> None:
    sf.render(snakemake, frame, facts, draw)


if __name__ == "__main__":
    main(snakemake)  # type: ignore[name-defined]  # noqa: F821
