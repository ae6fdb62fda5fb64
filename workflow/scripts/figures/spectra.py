"""How many directions of a gradient survive: the Lyapunov spectrum, and the singular values over more and more steps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from study.report import drawing, facets, layout, measures, reader, statistics, style
from study.report.chosen import redrawn
from study.report.findings import Study
from study.report.phrases import LN10, counted
from study.report.words import (
    LONGEST_TITLE,
    itemized,
    marked,
    marked_count,
    name_of,
    number,
    plain,
    power,
    unrounded,
)

NOTHING = drawing.Nothing(
    "This study does not measure the spectra of its networks.",
    "Add the key spectra to the config, and below it exponents: 8 and singular_values: [1, 10, 100].",
)
SAME_RATE = 0.1  # of the exponents' range or of their usual size, if that is larger: nearer, the growth rate is that of the network
STRETCHED = 0.02  # by more than this share, a matrix' powers stretch more than ρ alone would
MOST_KINDS = 4  # rows of the figure
CLEARLY = 2.0  # errors of an exponent: further from zero it has a sign
LITTLE = float(np.log10(1.05))  # decades
ROUNDING = 1e-9  # ln per step
ALONE: dict[str, Any] = {"color": style.INK, "lw": 1.1, "ls": ":"}
MEASURED = (
    "lyapunov_max", "lyapunov_error", "surviving_directions", "spectra_lag", "kaplan_yorke_dimension", "entropy_rate",
    "growth_rate", "growth_minus_lyapunov",
)  # fmt: skip


def frame(tables: reader.Tables) -> pd.DataFrame:
    """Rows of five kinds (``what``), of every kind of network (``panel``) at its longest sequence.

    - exponent: the median λ_i over networks, at ``x`` = i, by ``scale``: the spectral radius, or what ``scaled_by`` says.
    - value: log10 of the i-th singular value over ``x`` steps, of one network (``shown``).
    - norm: log10 of that network's gradient norm ``x`` steps before the last, relative to the last, of the same sample.
    - exponent alone: what that network's λ₁ makes of ``x`` steps, in log10. What lies above it is growth on the way.
    - most: of every network whose λ₁ is clearly negative, drawn or not, the largest log10 of a singular value over any lag, and that lag ``x``.

    ``size`` is the number of directions S; nan where it is not known. ``cut``: values of −∞ that are not drawn.
    """
    if "spectra" not in tables.files:
        return pd.DataFrame()
    networks = _with_spectra(tables.runs(*MEASURED))
    if networks.empty:
        return pd.DataFrame()
    scale = measures.scale_of(networks)
    axes = [axis for axis in measures.varied(networks, measures.TRAINING) if axis != scale]
    runs = _placed(networks, axes).assign(scale=lambda shown: shown[scale])
    every = tables.read(
        "spectra",
        ["run_key", "sample", "lag", "i", "lyapunov_exponent", "log10_singular_value", "log10_gradient_ratio"],
    )
    every = every[every["sample"] == 0].drop_duplicates(["run_key", "lag", "i"])
    rows = every.merge(runs[["run_key", "panel", "scale"]], on="run_key")
    size = rows[rows["lag"].notna()].groupby("panel", observed=True)["i"].max()
    parts = [_exponents(rows[rows["lag"].isna()])]
    for panel, of_panel in runs.groupby("panel", observed=True):
        shown = _shown(of_panel)
        own = rows[rows["run_key"] == shown["run_key"]]
        parts += [_values(own, panel, shown), _norm(own, panel, shown), _exponent_alone(own, panel, shown)]
    parts.append(_most(every, networks))
    data = pd.concat([part for part in parts if len(part)], ignore_index=True)
    data["size"] = data["panel"].map(size).astype(float)
    data["panel"] = pd.Categorical(data["panel"], categories=runs["panel"].cat.categories, ordered=True)
    return data.assign(left_out=runs["left_out"].iloc[0], scaled_by=scale)


def _placed(networks: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """The networks of the kinds that have a row, those that the headline names among them."""
    every, drawn = (facets.panels(networks, axes, most) for most in (len(networks), MOST_KINDS))
    ends = [kinds[i] for kinds in [_by_survivors(networks)] if kinds for i in (0, -1)]
    return redrawn(every, drawn, [measures.where(every, **kind)["panel"].iloc[0] for kind, _ in ends])


def _by_survivors(networks: pd.DataFrame) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Every setting at the longest lag that the study has, that with the fewest surviving directions first: its mean over seeds.

    A scale that changes nothing is none of it, as of a linear network: all singular values have it as a factor.
    """
    runs = networks.dropna(subset=["surviving_directions", "spectra_lag"])
    runs = runs[runs["spectra_lag"] == runs["spectra_lag"].max()]
    if runs.empty:
        return []
    axes, scale = _of_kind(runs), measures.scale_of(runs)
    kinds = []
    for kind, rows in measures.grouped(runs, [axis for axis in axes if axis != scale]):
        apart = scale in axes and (rows.groupby("seed")["surviving_directions"].nunique() > 1).any()
        own = measures.grouped(rows, [axis for axis in axes if axis == scale or axis in kind])
        kinds += own if apart else [(kind, rows)]
    return sorted(kinds, key=lambda kind: float(kind[1].groupby("seed")["surviving_directions"].mean().mean()))


def _with_spectra(runs: pd.DataFrame) -> pd.DataFrame:
    """The networks whose spectra were measured, at the longest sequence of their kind."""
    known = measures.starts(runs).dropna(subset=["lyapunov_max"])
    return measures.at_longest(known, _of_kind(known))


def _of_kind(runs: pd.DataFrame) -> list[str]:
    """What tells kinds of network apart; their length does not."""
    return [axis for axis in measures.varied(runs, measures.TRAINING) if axis != "sequence_length"]


def _exponents(rows: pd.DataFrame) -> pd.DataFrame:
    median = rows.groupby(["panel", "scale", "i"], observed=True, as_index=False, dropna=False)[
        "lyapunov_exponent"
    ].median()
    return median.rename(columns={"lyapunov_exponent": "y"}).assign(what="exponent", x=median["i"].astype(float))


def _shown(runs: pd.DataFrame) -> pd.Series:
    """The network whose largest exponent is nearest to zero: there directions differ most."""
    return runs.loc[runs["lyapunov_max"].abs().idxmin()]


def _values(rows: pd.DataFrame, panel: Any, shown: pd.Series) -> pd.DataFrame:
    """Its singular values by lag, from 0 at lag 0."""
    known = rows[rows["lag"].notna()]
    start = known.drop_duplicates("i").assign(lag=0.0, log10_singular_value=0.0)
    both = pd.concat([start, known])
    return pd.DataFrame(
        {"what": "value", "panel": panel, "scale": shown["scale"], "i": both["i"], "x": both["lag"], "y": both["log10_singular_value"]}
    )  # fmt: skip


def _norm(rows: pd.DataFrame, panel: Any, shown: pd.Series) -> pd.DataFrame:
    """The norm of its gradient, of the same sample."""
    known = rows[rows["lag"].notna() & rows["log10_gradient_ratio"].notna()].drop_duplicates("lag")
    if known.empty:
        return pd.DataFrame()
    x, y = np.append(0.0, known["lag"]), np.append(0.0, known["log10_gradient_ratio"])
    return pd.DataFrame({"what": "norm", "panel": panel, "scale": shown["scale"], "x": x, "y": y})


def _exponent_alone(rows: pd.DataFrame, panel: Any, shown: pd.Series) -> pd.DataFrame:
    """A straight line from 0, as far as the singular values reach."""
    exponent, lags = float(shown["lyapunov_max"]), rows["lag"].dropna()
    if lags.empty or not np.isfinite(exponent):
        return pd.DataFrame()
    x = np.array([0.0, float(lags.max())])
    return pd.DataFrame(
        {"what": "exponent alone", "panel": panel, "scale": shown["scale"], "x": x, "y": x * exponent / LN10}
    )  # fmt: skip


def _most(rows: pd.DataFrame, networks: pd.DataFrame) -> pd.DataFrame:
    """Of networks in which every direction shrinks in the end, drawn or not: how far the best one is stretched before, over how many steps."""
    shrinking = networks.loc[_sign(networks) < 0, "run_key"]
    best = rows[rows["lag"].notna() & (rows["i"] == 1) & rows["run_key"].isin(shrinking)]
    best = best[np.isfinite(best["log10_singular_value"].astype(float))]
    if best.empty:
        return pd.DataFrame()
    largest = best.loc[best.groupby("run_key")["log10_singular_value"].idxmax()]
    return pd.DataFrame({"what": "most", "x": largest["lag"], "y": largest["log10_singular_value"]})


def _sign(runs: pd.DataFrame) -> np.ndarray:
    """Of every run's largest exponent: 0 where it is no further from zero than its error, or than rounding, allows."""
    exponent, error = (runs[name].to_numpy(dtype=float) for name in ("lyapunov_max", "lyapunov_error"))
    return np.where(np.abs(exponent) > CLEARLY * error + ROUNDING, np.sign(exponent), 0.0)


# ---- facts


def facts(data: pd.DataFrame, study: Study) -> drawing.Facts:
    if data.empty:
        return NOTHING.facts()
    survivors = _survivors(data, study)
    title = _title(survivors) if survivors else _largest(study)
    shown = ["fan"] if (data["what"] == "value").any() else []
    shown += ["norm"] if (data["what"] == "norm").any() else []
    shown += ["scales"] if data["scale"].nunique() > 1 else []
    shown += ["weight scale"] if data["scaled_by"].iloc[0] == "weight_scale" else []
    shown += ["exponent alone"] if (data["what"] == "exponent alone").any() else []
    shown += ["scale"] if data["panel"].nunique() > 1 else []
    shown += ["cut"] if np.isneginf(data["y"]).any() else []
    beside = ". Beside it stand the singular values of one network over more and more steps" if "fan" in shown else ""
    alt = f"Line charts of the Lyapunov exponents of each direction{facets.alt_list(data['panel'].cat.categories)}{beside}. {title}"
    claims = [
        _intervals(survivors),
        _largest(study) if survivors else "",
        _ruler(study),
        _chaos(study),
        _on_the_way(data),
        _normality(study),
        facets.left_out(data, headline=True),
    ]
    return drawing.facts(title, alt, claims, shown, answer=claims[:3])


def _measured(study: Study) -> pd.DataFrame:
    return _with_spectra(study.all_runs)


class _Survivor:
    """How many directions survive in one setting: mean over seeds, of how many, over how many steps."""

    def __init__(self, settings: dict[str, Any], rows: pd.DataFrame, size: int, lag: int) -> None:
        self.where, self.size, self.lag = settings, size, lag
        self.seeds = rows["seed"].nunique()
        self.scales = rows[measures.scale_of(rows)].nunique(dropna=False)
        self.differ = rows["surviving_directions"].nunique() > 1
        self.mean = statistics.mean(rows.groupby("seed")["surviving_directions"].mean().to_numpy(dtype=float))

    @property
    def count(self) -> str:
        return marked(
            number(self.mean.value, 2 if self.mean.value < 10 else 3),
            "surviving_directions",
            self.mean.value,
            **self.where,
        )

    @property
    def interval(self) -> str:
        if not np.isfinite(self.mean.low) or not self.differ:
            return ""
        high = min(self.mean.high, self.size or np.inf)
        ends = {"surviving_low": max(0.0, self.mean.low), "surviving_high": high}
        words = [marked(number(end, 2 if end < 10 else 3), kind, end, **self.where) for kind, end in ends.items()]
        return f" ({words[0]} to {words[1]})"

    @property
    def name(self) -> str:
        return name_of(self.where, first="spectral_radius") if self.where else ""


def _survivors(data: pd.DataFrame, study: Study) -> list[_Survivor]:
    """Every setting at the longest lag that the study has, of networks of the commonest size; the fewest first. None of networks of one unit."""
    kinds = _by_survivors(_measured(study))
    sizes = data.dropna(subset=["size"]).drop_duplicates("panel")["size"]
    if not kinds or sizes.empty or sizes.max() == 1:
        return []
    size = int(sizes.iloc[0]) if sizes.nunique() == 1 else 0
    return [_Survivor(chosen, rows, size, int(rows["spectra_lag"].max())) for chosen, rows in kinds]


def _are_several(survivors: list[_Survivor]) -> bool:
    """Whether these are several settings; one of them may stand for scales that change nothing."""
    return len(survivors) > 1 or survivors[0].scales > 1


def _title(survivors: list[_Survivor]) -> str:
    first, last = survivors[0], survivors[-1]
    one = plain(first.count) == "1"
    of = f" of {marked_count(first.size, 'directions')} directions" if first.size else f" direction{'s' * (not one)}"
    steps = f"Over {counted(first.lag, 'step', marked_count(first.lag, 'spectra_lag'))},"
    best = f"keep{'s' * one} one percent of what the best keeps"
    if len(survivors) == 1 or plain(first.count) == plain(last.count):
        return f"{steps} {first.count}{of} {best}{' in every setting' if _are_several(survivors) else ''}."
    text = f"{steps} {first.count}{of} {best} for {first.name}, and {last.count} for {last.name}."
    of = of if first.size else " directions"
    short = f"{steps} between {first.count} and {last.count}{of} keep one percent of what the best keeps."
    return text if len(plain(text)) <= LONGEST_TITLE else short


def _intervals(survivors: list[_Survivor]) -> str:
    """The numbers of surviving directions with their intervals."""
    if not survivors:
        return ""
    if not any(np.isfinite(each.mean.low) for each in survivors):
        return "With one network a setting, there is no interval."
    if all(plain(each.count) == plain(survivors[0].count) and not each.differ for each in survivors):
        return "In every setting, all networks have as many." if _are_several(survivors) else ""
    chosen = facets.spread(survivors, 6)
    some = ", in some of the settings" if len(chosen) < len(survivors) else ""
    said = itemized(f"{each.count}{each.interval}{f' for {each.name}' if each.name else ''}" for each in chosen)
    return f"Directions that survive, in the mean over networks{some}: {said}."


def _largest(study: Study) -> str:
    """The range of the largest exponent."""
    runs = _measured(study)
    known = runs["lyapunov_max"].astype(float)
    known = known[np.isfinite(known)]
    if known.empty:
        return "No network has a finite exponent."
    low, high = (
        marked(number(unrounded(value), 2), f"lyapunov_{end}", value)
        for end, value in (("lowest", known.min()), ("highest", known.max()))
    )
    return (
        f"The largest Lyapunov exponent is {low} a step."
        if plain(low) == plain(high)
        else f"The largest Lyapunov exponent lies between {low} and {high} a step."
    )


def _ruler(study: Study) -> str:
    """How far the growth rate is from the largest exponent, in the setting in which its median network is furthest.

    A median over all settings would be that of the settings in which nothing differs.
    """
    runs = _measured(study)
    runs = runs[np.isfinite(runs[["growth_minus_lyapunov", "lyapunov_max"]].astype(float)).all(axis=1)]
    if runs.empty:
        return ""
    kinds = measures.grouped(runs, _of_kind(runs))
    apart = [(float(rows["growth_minus_lyapunov"].abs().median()), chosen) for chosen, rows in kinds]
    furthest, where = max(apart, key=lambda each: each[0])
    exponents = runs["lyapunov_max"].astype(float)
    scale = max(float(np.ptp(exponents)), float(exponents.abs().median()))
    said = marked(number(furthest, 2), "growth_minus_lyapunov", furthest, **where)
    several = len(apart) > 1
    median = "median network of " if any(len(rows) > 1 for _, rows in kinds) else ""
    one = "In the median network, the" if len(runs) > 1 else "The"
    if furthest <= SAME_RATE * scale + ROUNDING:
        start, most = (
            (f"In {'the ' if median else ''}{median}every setting, the", f"at most {said}") if several else (one, said)
        )
        return f"{start} measured growth rate is {most} a step from this exponent: the rate belongs to the network, not to the readout."
    start, most = (f"In {'the ' if median else ''}{median}a setting, the", f"up to {said}") if several else (one, said)
    worst = f", for {name_of(where)}" if where else ""
    return (
        f"{start} measured growth rate and this exponent are {most} a step apart{worst}. "
        "The readout's direction and the other samples of the batch make the difference."
    )


def _chaos(study: Study) -> str:
    """Networks that expand in some direction."""
    runs = _measured(study)
    grows = _sign(runs) > 0
    chaotic = int(grows.sum())
    if len(runs) == 1:
        return f"{'Some' if chaotic else 'No'} direction grows by more than twice the error of its exponent.{_dimension(runs[grows], 'Its')}"
    if not chaotic:
        return "In no network does any direction grow by more than twice the error of its exponent."
    words = f"In {marked_count(chaotic, 'chaotic_networks')} of {marked_count(len(runs), 'networks_with_spectra')} networks, some direction grows: by more than twice the error of its exponent."
    return words + _dimension(runs[grows], "Their")


def _dimension(chaotic: pd.DataFrame, whose: str) -> str:
    """The largest Kaplan–Yorke dimension."""
    dimension = chaotic["kaplan_yorke_dimension"].astype(float).dropna()
    if dimension.empty:
        return ""
    largest = "largest " if len(dimension) > 1 else ""
    return f" {whose} {largest}Kaplan–Yorke dimension is {marked(number(float(dimension.max()), 3), 'kaplan_yorke_dimension', float(dimension.max()))}."


def _on_the_way(data: pd.DataFrame) -> str:
    """Growth before everything shrinks: what a matrix that is not normal does, although its exponents are negative."""
    most = data[data["what"] == "most"]
    if most.empty:
        return ""
    first = most[most["y"] > LITTLE]
    of = f"{counted(len(most), 'network', marked_count(len(most), 'shrinking_networks'))} in which every direction shrinks in the end"
    if first.empty:
        return f"Of {of}, none stretches any direction by a twentieth on the way."
    middle, lag = float(first["y"].median()), statistics.whole_median(first["x"].to_numpy())
    factor, one = marked(power(middle), "first_growth", middle), len(first) == 1
    return (
        f"Of {of}, {marked_count(len(first), 'first_growing')} first stretch{'es' * one} some direction by a twentieth or more. "
        f"{'It' if one else 'In their median it'} grows {factor}-fold before it shrinks, the most over {_steps(lag, 'first_growth_lag')} back."
    )


def _steps(count: float, kind: str, **where: Any) -> str:
    return marked(number(count), kind, count, **where) + (" step" if count == 1 else " steps")


def _normality(study: Study) -> str:
    """How far the recurrent matrices are from normal, and what their powers do before ρ rules them: a median for every initialiser.

    A matrix counts once, whatever its scale. A median over several initialisers would lie between them, where no matrix is.
    """
    runs = _measured(study).dropna(subset=["henrici", "peak_growth", "peak_growth_lag"])
    matrices = runs.drop_duplicates(measures.NETWORK)
    if matrices.empty:
        return ""
    several = matrices["initializer"].nunique() > 1
    departures, powers = [], []
    for chosen, rows in measures.grouped(matrices, ["initializer"] if several else []):
        henrici, peak = (float(rows[name].median()) for name in ("henrici", "peak_growth"))
        lag = statistics.whole_median(rows["peak_growth_lag"].to_numpy())
        of = f" for {chosen['initializer']}" if several else ""
        departures.append(marked(number(henrici, 2) if henrici > ROUNDING else "0", "henrici", henrici, **chosen) + of)
        if peak >= 1.0 + STRETCHED:
            times = marked(number(peak, 2), "peak_growth", peak, **chosen)
            power = marked_count(int(lag), "peak_growth_lag", **chosen)  # of the matrix: sequences may have fewer steps
            powers.append(f"{times} times at power k = {power}{of}")
    median = " and in the median" if len(matrices) > len(departures) else ""
    departure = f"Henrici's departure from a normal matrix, in parts of its norm{median}: {itemized(departures)}."
    these, their = ("this matrix", "its") if len(matrices) == 1 else ("these matrices", "their")
    if not powers:
        return f"{departure} So the powers of {these} grow as {their} ρ says, from the first one on."
    return f"{departure} Powers of {these} stretch more than ρ alone would: {itemized(powers)}."


# ---- drawing


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    panels, fan = list(data["panel"].cat.categories), bool((data["what"] == "value").any())
    each = 2 if fan else 1
    figure, axes = layout.grid(each * len(panels), layout.columns(2), 3.1, sharex=False)
    paint = style.colours(str(data["scaled_by"].iloc[0]), list(data["scale"].dropna().unique()))
    for row, panel in enumerate(panels):
        own = data[data["panel"] == panel]
        name = str(panel) if len(panels) > 1 else ""
        _spectrum(axes[each * row], own, paint, name)
        if fan:
            _fan(axes[each * row + 1], own)
    for column in range(each):
        _one_scale(axes[column::each])
    layout.legend_below(figure, _legend(data, paint), most=6, on_a_phone=2)
    return figure


def _spectrum(ax: Axes, data: pd.DataFrame, paint: dict[float, Any], name: str) -> None:
    """λ_i against i, a line for every spectral radius or weight scale."""
    rows = data[(data["what"] == "exponent") & np.isfinite(data["y"])]
    ax.axhline(0.0, color=style.FAINT, lw=1.0, zorder=0)
    for scale, line in rows.groupby("scale", dropna=False):
        few = len(line) < 12
        ax.plot(
            line["x"],
            line["y"],
            color=paint.get(scale, style.INK),
            lw=1.8,
            marker="o" if few else "",
            ms=4,
            gid="spectrum",
        )
    low, high = ax.get_ylim()
    if high - low < ROUNDING:  # all are 0, but for rounding
        ax.set_ylim(-0.05, 0.05)
    ax.set_title(layout.wrapped(name, 34) if name else "Lyapunov exponents", loc="left")
    ax.set(xlabel="direction i, the fastest first", ylabel="exponent λ$_i$ (ln per step)")
    ax.xaxis.set_major_locator(layout.whole_numbers(9))


def _one_scale(axes: Sequence[Axes]) -> None:
    """The same limits, or the orthogonal network's last direction would look as steep as the Gaussian one's."""
    ends = np.array([ax.get_ylim() for ax in axes])
    for ax in axes:
        ax.set_ylim(ends[:, 0].min(), ends[:, 1].max())


def _fan(ax: Axes, data: pd.DataFrame) -> None:
    """Singular values against lag, a line for every direction; through them the norm of the gradient."""
    rows = data[(data["what"] == "value") & np.isfinite(data["y"])]
    for _, line in rows.groupby("i"):
        ax.plot(line["x"], line["y"], color="#9ec4dd", lw=0.8, gid="value", zorder=1)
    best = rows[rows["i"] == 1]
    if len(best):
        ax.plot(best["x"], best["y"], color=style.REGIME_COLOURS["vanishing"], lw=2.0, gid="best", zorder=2)
        ax.plot(
            best["x"],
            best["y"] - 2.0,
            color=style.REGIME_COLOURS["vanishing"],
            lw=1.3,
            ls=(0, (4, 2)),
            gid="one percent",
            zorder=2,
        )
    alone = data[data["what"] == "exponent alone"]
    ax.plot(alone["x"], alone["y"], gid="exponent alone", zorder=2.5, **ALONE)
    norm = data[(data["what"] == "norm") & np.isfinite(data["y"])]
    ax.plot(norm["x"], norm["y"], color=style.REGIME_COLOURS["exploding"], lw=2.0, gid="norm", zorder=3)
    scale = rows["scale"].iloc[0] if len(rows) else np.nan
    at = f" at {measures.symbol_of(str(data['scaled_by'].iloc[0]))} = {number(scale)}" if np.isfinite(scale) else ""
    ax.set_title(f"One network{at}", loc="left")
    ax.xaxis.set_major_locator(layout.whole_numbers(9))
    ax.set(xlabel="lag: steps back from the last one", ylabel="log$_{10}$ of the stretch of each direction")
    if len(best):
        low = float(best["y"].min())  # the line of one percent, two below it, is always in sight
        ax.set_ylim(max(min(float(rows["y"].min()), low - 2.0), low - 12.0) - 0.5, float(rows["y"].max()) + 1.0)


def _legend(data: pd.DataFrame, paint: dict[float, Any]) -> list[Any]:
    scales, symbol = (
        sorted(data.loc[data["what"] == "exponent", "scale"].dropna().unique()),
        measures.symbol_of(str(data["scaled_by"].iloc[0])),
    )
    handles = (
        [Line2D([], [], color=paint[s], lw=1.8, label=f"{symbol} = {number(s)}") for s in facets.spread(scales, 6)]
        if len(scales) > 1
        else []
    )
    if (data["what"] == "value").any():
        blue = style.REGIME_COLOURS["vanishing"]
        handles += [
            Line2D([], [], color=blue, lw=2.0, label="best direction"),
            Line2D([], [], color=blue, lw=1.3, ls=(0, (4, 2)), label="one percent of it"),
            Line2D([], [], color="#9ec4dd", lw=0.8, label="every direction"),
        ]
    if (data["what"] == "exponent alone").any():
        handles.append(Line2D([], [], label="λ$_1$ alone", **ALONE))
    if (data["what"] == "norm").any():
        handles.append(Line2D([], [], color=style.REGIME_COLOURS["exploding"], lw=2.0, label="the gradient's norm"))
    return handles
