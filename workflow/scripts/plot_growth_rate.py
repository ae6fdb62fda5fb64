"""The gradient's growth per step against spectral radius, beside prediction, linear law and bound; and the deviation."""

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
ZERO = "a seed’s gradient is exactly 0"
COLUMNS = 4
LONGEST_TITLE = 235  # letters: three lines
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
        bounded=("bound_rate", "count"), cell=("cell", "first"), common=("common", "first"),
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
    groups = {sf.in_lists(str(panel)): rows for panel, rows in data.groupby("panel", observed=True)}
    crossings = {panel: critical_radii(rows) for panel, rows in groups.items()}
    title = _title(groups, crossings)
    worst = data.dropna(subset=["deviation"])
    numbers = {"T": sf.listed(sorted({str(T) for T in data["sequence_length"]})), "seeds": str(data["seeds"].max())}
    numbers |= {
        f"critical_{panel}": sf.listed(f"{radius:.2f}" for radius in found)
        for panel, found in crossings.items()
        if found
    }
    claims = {"common": sf.common(data), "without": _without(data), "bound": _bound(data)}
    claims |= {"left_out": sf.left_out(data), "seeds": _errors(data)}
    if len(title) > LONGEST_TITLE:
        claims["crossings"] = title
        title = _counts(groups, crossings)
    drawn = {"predicted": "the prediction", "linear": "the linear law", "bound": "the upper bound"}
    drawn = {name: words for name, words in drawn.items() if data[name].notna().any()}
    numbers |= {"theory": ", ".join(drawn)} if drawn else {}
    numbers |= {"residual": "yes"} if (data["cell"] == "residual").any() else {}
    if len(worst):
        row = worst.loc[worst["deviation"].abs().idxmax()]
        decades = row["deviation"] * (row["sequence_length"] - 1) / np.log(10)
        numbers["worst_deviation"] = sf.signed(row["deviation"], 2)
        claims["deviation"] = (
            f"The largest deviation from the prediction is {sf.signed(row['deviation'], 2)} a step "
            f"({sf.in_lists(row['panel'])}, ρ = "
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
        f"radius{f', with {sf.listed(drawn.values())} as lines' if drawn else ''}"
        f"{'; below, measured minus predicted' if 'predicted' in drawn else ''}. {title}"
    )
    return sf.facts(title, alt, numbers, claims)


Crossings = dict[str, list[float]]


def _never(groups: dict[str, pd.DataFrame], crossings: Crossings) -> tuple[list[str], list[str]]:
    """Panels that shrink at every radius, and panels that grow at every radius."""
    rates = {panel: rows["measured"].dropna() for panel, rows in groups.items() if not crossings[panel]}
    shrink = [panel for panel, known in rates.items() if len(known) and known.max() < 0]
    return shrink, [panel for panel, known in rates.items() if len(known) and known.min() > 0]


def _title(groups: dict[str, pd.DataFrame], crossings: Crossings) -> str:
    """Which panels cross zero and where; which never do."""
    crossing = [f"{found[0]:.2f} ({panel})" for panel, found in crossings.items() if found]
    vanish, explode = _never(groups, crossings)
    parts = [f"neither shrink nor grow at ρ = {_few(crossing)}"] if crossing else []
    parts += [f"shrink at every ρ tried for {_few(vanish)}"] if vanish else []
    parts += [f"grow at every ρ tried for {_few(explode)}"] if explode else []
    return f"Gradients {'; they '.join(parts) or 'have no finite growth rate'}."


def _counts(groups: dict[str, pd.DataFrame], crossings: Crossings) -> str:
    """The same without names, of many panels."""
    critical = [found[0] for found in crossings.values() if found]
    vanish, explode = _never(groups, crossings)
    between = f"ρ between {min(critical):.2f} and {max(critical):.2f}" if critical else ""
    parts = [f"neither shrink nor grow at a {between} in {len(critical)}"] if critical else []
    parts += [f"shrink at every ρ tried in {len(vanish)}"] if vanish else []
    parts += [f"grow at every ρ tried in {len(explode)}"] if explode else []
    return f"Of {len(groups)} kinds of network, gradients {sf.listed(parts)}."


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
    above, runs = int(data["above_bound"].sum()), int(data["bounded"].sum())
    if 0 < runs < data["seeds"].sum():
        return f"Of the {runs} runs that have an upper bound {f'{above} lie' if above else 'none lies'} above it."
    return f"{'No' if above == 0 else above} run of {runs} lies above the upper bound." if runs else ""


def _without(data: pd.DataFrame) -> str:
    """Which cells a theory says nothing about."""
    cells = data.groupby("cell", sort=False)[["predicted", "linear"]].count()
    neither = list(cells.index[(cells == 0).all(axis=1)])
    unpredicted = [cell for cell in cells.index[cells["predicted"] == 0] if cell != "vanilla"]
    if not unpredicted:
        return ""
    parts = [f"Mean-field theory is about the vanilla cell: no prediction for {sf.listed(unpredicted)}."]
    parts += [f"There is no linear law and no upper bound for {sf.listed(neither)}."] if neither else []
    return " ".join(parts)


def _errors(data: pd.DataFrame) -> str:
    if data["seeds"].max() > 1:
        return "Bars: one standard deviation over the seeds."
    return "There is one seed; bars: the standard error over time."


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    names = list(data["panel"].cat.categories)
    groups = [data[data["panel"] == name] for name in names]
    filled = [bool(rows["deviation"].notna().any()) for rows in groups]
    figure, pairs = sf.stacked_grid(filled, COLUMNS, (3, 1.25), 4.7)
    for (upper, lower), name, rows, strip in zip(pairs, names, groups, filled, strict=True):
        _panel(upper, rows)
        sf.panel_title(upper, name, 17)
        if strip:
            _strip(lower, rows)
            upper.tick_params(labelbottom=False)
            lower.set_xlim(upper.get_xlim())
        else:
            _no_strip(lower, rows)
        (lower if strip else upper).set_xlabel(study_tables.label("spectral_radius") + "\n(largest |eigenvalue|)")
    sf.share_y([upper for upper, _ in pairs], COLUMNS, "growth rate per step back\n(change of ln ‖∂L/∂h‖)")
    sf.share_y([lower for _, lower in pairs], COLUMNS, "measured −\npredicted")
    figure.legend(handles=_legend(data), loc="outside lower center", ncols=2)
    return figure


STYLE: dict[str, Any] = {"fmt": "o", "ms": 5.5, "color": MEASURED, "elinewidth": 1.4, "capsize": 2.5}


def _panel(upper: Axes, rows: pd.DataFrame) -> None:
    rho = rows["spectral_radius"]
    single: dict[str, Any] = {"marker": "_", "ms": 14} if len(rows) == 1 else {}
    upper.axhline(0.0, color="#444444", lw=0.8, zorder=0)
    lines: dict[str, dict[str, Any]] = {
        "bound": {"color": BOUND, "ls": ":", "lw": 2.0},
        "linear": {"color": LINEAR, "ls": (0, (4, 2)), "lw": 1.3},
        "predicted": {"color": PREDICTED, "lw": 2.0},
    }
    for theory, line in lines.items():
        if rows[theory].notna().any():
            upper.plot(rho, rows[theory], gid=theory, **line, **single)
    upper.errorbar(rho, rows["measured"], rows["error"].fillna(0.0), **STYLE).lines[0].set_gid("measured")
    for radius in critical_radii(rows)[:2]:
        upper.plot([radius], [0.0], marker="D", ms=8, mfc="none", mec=sf.INK, mew=1.6, ls="", gid="critical", zorder=5)
        place: dict[str, Any] = {"xytext": (0, -9), "textcoords": "offset points", "ha": "center", "va": "top"}
        text = upper.annotate(f"{radius:.2f}", (radius, 0.0), fontsize=10, fontweight="bold", **place)
        text.set_bbox({"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 0.6})
    upper.margins(y=0.1)
    if rows["zeros"].any():
        zero = rows.loc[rows["zeros"] > 0, "spectral_radius"]
        upper.plot(zero, [0.03] * len(zero), "v", color=MEASURED, transform=upper.get_xaxis_transform(), gid="zero")


def _strip(lower: Axes, rows: pd.DataFrame) -> None:
    """Measured minus predicted."""
    lower.axhline(0.0, color=PREDICTED, lw=1.6, zorder=0)
    bars = rows["deviation_error"].fillna(0.0)
    lower.errorbar(rows["spectral_radius"], rows["deviation"], bars, **STYLE).lines[0].set_gid("deviation")


def _no_strip(lower: Axes, rows: pd.DataFrame) -> None:
    """No axes where there is nothing to show, but why there is nothing."""
    lower.set_axis_off()
    if rows["predicted"].notna().any():
        why = "no deviation: no finite measured rate"
    else:
        why = f"no prediction for this {'initializer' if rows['cell'].iloc[0] == 'vanilla' else 'cell'}"
    words = textwrap.fill(why, 28)
    lower.text(0.5, 0.5, words, transform=lower.transAxes, ha="center", va="center", fontsize=9, color="#666666")


def _legend(data: pd.DataFrame) -> list[Line2D]:
    seeds = int(data["seeds"].max())
    bars = f"{seeds} seeds, mean ± standard deviation" if seeds > 1 else "one seed ± error over time"
    T = data["sequence_length"].max()
    cells = set(data.loc[data["linear"].notna(), "cell"])
    plain, residual = "vanilla" in cells or cells != {"residual"}, "residual" in cells
    law = " ".join([*(["ln ρ"] if plain else []), *(["(residual: of (1 − λ) I + η W)"] if residual else [])])
    bound = r"$\ln(\gamma\,\sigma_{\max})$; $\sigma_{\max}$: largest singular value"
    if residual:
        both = r"$\ln(\gamma\,\sigma_{\max})$, residual " if plain else ""
        bound = both + r"$\ln(1-\lambda+\eta\,\gamma\,\sigma_{\max})$"
    dashes: dict[str, Any] = {"color": LINEAR, "ls": (0, (4, 2)), "lw": 1.3}
    diamond: dict[str, Any] = {"color": sf.INK, "marker": "D", "mfc": "none", "mew": 1.6, "ms": 7, "ls": ""}
    predicted = "predicted: mean field ½ ln χ₁ (identity: ln ρ)"
    entries = [
        (True, Line2D([], [], color=MEASURED, marker="o", ls="", ms=6, label=f"measured, T = {T}: {bars}")),
        (data["predicted"].notna().any(), Line2D([], [], color=PREDICTED, lw=2, label=predicted)),
        (bool(cells), Line2D([], [], label=f"linear law {law}", **dashes)),
        (data["bound"].notna().any(), Line2D([], [], color=BOUND, ls=":", lw=2, label=f"upper bound {bound}")),
        (True, Line2D([], [], label="critical ρ: measured rate is 0", **diamond)),
        (data["zeros"].any(), Line2D([], [], color=MEASURED, marker="v", ls="", ms=6, label=ZERO)),
    ]
    return [handle for there, handle in entries if there]


def main(snakemake: Any) -> None:
    sf.render(snakemake, frame, facts, draw)


if __name__ == "__main__":
    main(snakemake)  # type: ignore[name-defined]  # noqa: F821
