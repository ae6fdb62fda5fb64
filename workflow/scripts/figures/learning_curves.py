"""How training goes: the loss of the training batches against update, beside what a network has that has learnt nothing."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from study.report import drawing, facets, layout, measures, reader
from study.report.findings import Study
from study.report.phrases import count_of
from study.report.words import (
    LONGEST_TITLE,
    capital,
    few,
    listed,
    marked_count,
    named,
    plain,
    plural_of,
    singular_of,
    spelled,
)

NOTHING = drawing.Nothing(
    "No run of this study trains, so no loss falls or rises.",
    'Add a sweep with updates: 100 or more and clipping: [none, "norm:1.0"].',
)
BINS, LAST = 34, 10  # points of a curve; updates whose median loss is the loss at the end
MOST_HUES, MOST_BANDS, MOST_DIRECT = 8, 3, 6
LONGEST_DIRECT = 24  # letters: a longer name at the end of a curve would leave the panel no room
SAME = 1e-6  # relative difference of curves that coincide
NEAR = 0.012  # share of the scale that a line is wide
MARGINS = (
    (0.1, 1.25),
    (0.13, 1.35),
)  # what a scale has below and above its lines: a share of their range, and a factor at most
LEAST_RANGE = 1.05  # of a scale: lines that are all but level are not blown up to noise
FEW_LINES = 4  # more in a panel are thinner
MOST_OF = 0.75  # share of its points at which a curve that is hidden is so near
HEIGHT, AROUND_ALL = 2.2, 1.1  # inches of a row of panels, and around all
BELOW = "below the held-out loss of a prediction without memory"  # the dashed line, of other sequences than the curves
_DASHES: dict[int, Any] = {0: "", 1: (4, 2), 2: (1.2, 1.8)}  # of curves that lie on each other, from the lowest
APART = 0.05  # hues whose networks without memory differ less in their loss share one dashed line


# ---- what is drawn


def frame(tables: reader.Tables) -> pd.DataFrame:
    """Run × bin of updates: the bin's median training loss, ∞ from the bin at which the run broke down.

    Every row repeats what holds for its run: ``first_loss``, ``last_loss``, the median of its last updates, ``broken`` and ``baseline_loss``.
    A run that is not drawn, because there is no room for its panel, is no row of a bin: its ``update`` is null.
    """
    runs = facets.trained_panels(tables.study, lambda part: [part.column], every=True)
    if runs.empty:
        return runs
    drawn = runs.dropna(subset=["panel"])
    rows = reader.updates_of(tables, drawn.drop_duplicates("run_key"), ["loss", "finite"])
    binned = [_binned(rows, own) for _, own in drawn.groupby("part")]
    curves_of_runs = pd.concat([*binned, runs[runs["panel"].isna()]], ignore_index=True)
    once = runs.drop_duplicates("run_key")
    first, last = _first_losses(tables, once), _last_losses(tables, once)
    keys = curves_of_runs["run_key"]
    return curves_of_runs.assign(first_loss=keys.map(first), last_loss=keys.map(last))


def _binned(rows: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of one part, with update (the middle of the bin) and loss."""
    updates = int(runs["updates"].max())
    width = -(-updates // BINS)
    rows = rows[rows["run_key"].isin(runs["run_key"])]
    loss = rows["loss"].where(rows["finite"] & np.isfinite(rows["loss"]))
    binned = rows.assign(loss=loss, bin=rows["update"] // width).groupby(["bin", "run_key"])["loss"].median()
    wide = binned.unstack().reindex(columns=runs["run_key"].unique())
    wide = wide.reindex(range(-(-updates // width)))
    ends = runs.drop_duplicates("run_key").set_index("run_key")["first_nonfinite_update"].reindex(wide.columns)
    ended = wide.index.to_numpy()[:, None] >= (ends.to_numpy(dtype=float) // width)[None, :]  # nan: never
    by_bin = (
        _held(wide, runs, width)
        .mask(ended, np.inf)
        .melt(ignore_index=False, value_name="loss")
        .reset_index()
        .dropna(subset=["loss"])
    )
    by_bin["update"] = by_bin.pop("bin") * width + (width - 1) / 2
    return runs.merge(by_bin, on="run_key", how="left")


def _held(wide: pd.DataFrame, runs: pd.DataFrame, width: int) -> pd.DataFrame:
    """A run that ended at its success keeps its last loss: else a median would be that of the runs that have not learnt yet."""
    took = (
        runs.drop_duplicates("run_key").set_index("run_key")["updates_to_success"].reindex(wide.columns).astype(float)
    )
    after = wide.index.to_numpy()[:, None] > ((took.to_numpy() - 1) // width)[None, :]  # nan: never
    return wide.where(~after, wide.ffill())


def _first_losses(tables: reader.Tables, runs: pd.DataFrame) -> pd.Series:
    """By run, the loss of its first batch, before anything is learnt."""
    where: reader.Filter = [("run_key", "in", set(runs["run_key"])), ("update", "==", 0)]
    return tables.read("updates", ["run_key", "loss"], where).drop_duplicates("run_key").set_index("run_key")["loss"]


def _last_losses(tables: reader.Tables, runs: pd.DataFrame) -> pd.Series:
    """By run, the median loss of the last updates that have a row; of one that broke down nothing is asked.

    A batch's loss is taken before its update, so the first is of a network that nothing has trained: a run that has no other is left out.
    """
    where: reader.Filter = [
        [("run_key", "in", set(own["run_key"])), ("update", ">=", max(1, int(updates) - LAST * int(every)))]
        for (updates, every), own in runs.groupby([measures.updates_made(runs), "record_every"])
    ]
    rows = tables.read("updates", ["run_key", "update", "loss"], where).drop_duplicates(["run_key", "update"])
    return rows.groupby("run_key")["loss"].median()


def curves(data: pd.DataFrame) -> pd.DataFrame:
    """Panel × hue × update: median over the runs, lowest and highest; ``ends`` where half of the runs have broken down."""
    bins = data.dropna(subset=["update"])
    summary = bins.groupby(["panel", "hue", "update"], observed=True, sort=True)["loss"].agg(
        ["median", "min", "max", "size"]
    )
    return summary.reset_index().rename(columns={"median": "middle", "min": "low", "max": "high"})


def drawn_curves(data: pd.DataFrame) -> pd.DataFrame:
    """Those that have a line."""
    medians, hues = curves(data), drawn_hues(data)
    asked = data.drop_duplicates("panel").set_index("panel")["asked"]
    has_line = [h in hues[str(asked[p])] for p, h in zip(medians["panel"], medians["hue"], strict=True)]
    return medians[has_line]


Alike = Callable[[np.ndarray, np.ndarray], bool]


def coinciding(medians: pd.DataFrame, hues: list[str]) -> list[list[str]]:
    """The curves of one panel, those that are the same together, in order."""
    return _groups_of(medians, hues, lambda a, b: bool(np.allclose(a, b, rtol=SAME, atol=0.0, equal_nan=True)))


def hiding(medians: pd.DataFrame, hues: list[str], scale: tuple[float, float]) -> list[list[str]]:
    """Those that lie on each other in the picture: at most of their points, they are less than a line's width apart."""
    nearest = NEAR * math.log(scale[1] / scale[0])

    def near(a: np.ndarray, b: np.ndarray) -> bool:
        with np.errstate(invalid="ignore", divide="ignore"):
            apart = np.abs(np.log(a) - np.log(b))
        return bool(np.mean((apart < nearest) | (a == b) | (np.isnan(a) & np.isnan(b))) >= MOST_OF)

    return _groups_of(medians, hues, near)


def _groups_of(medians: pd.DataFrame, hues: list[str], alike: Alike) -> list[list[str]]:
    """The curves of one panel, those that are like the first of their group together."""
    wide = medians.pivot(index="update", columns="hue", values="middle")
    groups: list[list[str]] = []
    for hue in hues:
        if hue not in wide:
            continue
        for group in groups:
            if alike(wide[group[0]].to_numpy(dtype=float), wide[hue].to_numpy(dtype=float)):
                group.append(hue)
                break
        else:
            groups.append([hue])
    return groups


# ---- what is said


def facts(data: pd.DataFrame, study: Study) -> drawing.Facts:
    if data.empty:
        return NOTHING.facts()
    trained_parts = study.trained_parts
    losses = data.drop_duplicates("run_key").set_index("run_key")["last_loss"]
    text = title(trained_parts, losses)
    drawn = data.dropna(subset=["panel"])
    medians = drawn_curves(drawn)
    named_equal, hidden = _coincident(drawn, medians)
    broken = data.drop_duplicates("run_key")["broken"].any()
    alt = (
        f"Line charts of training loss against update, one line for each value of {few(_axes(data))}"
        if any(data["asked"])
        else "A line chart of training loss against update"
    ) + f". {facets.alt_panels(data['panel'].cat.categories)} {plain(text)}"
    claims = [_by_value(part, trained_parts, losses) for part in trained_parts]
    claims += [_from_the_start(data), _without_end(trained_parts, losses)]
    claims += [
        f"Where curves lie on each other, one is dashed: {_groups(hidden)}." if hidden else "",
        _not_all_hues(data),
        facets.left_out(data, headline=True),
    ]
    binned = study.runs["updates"].max() > BINS
    shown = [
        *(["binned"] if binned else []),
        *(["broken"] if broken else []),
        *(["lost"] if _lost(medians) else []),
        *(["band"] if _banded(data) else []),
        *(["same"] if named_equal else []),
        *(["above"] if _leave_above(drawn, medians) else []),
        *(["succeeded"] if data["updates_to_success"].notna().any() else []),
        *(["baselines"] if any(len(_baselines(rows)) > 1 for _, rows in drawn.groupby("panel", observed=True)) else []),
    ]
    return drawing.facts(text, alt, claims, [*shown, *(["seeds"] if data["seed"].nunique() > 1 else [])])


def _coincident(drawn: pd.DataFrame, medians: pd.DataFrame) -> tuple[bool, list[list[str]]]:
    """(whether names at the ends of lines say that some are the same, lines that lie on each other, two or more of a panel)."""
    paint, named_equal, near = facets.hues(drawn), False, []
    for panel, rows in medians.groupby("panel", observed=True):
        scale = limits(drawn[drawn["part"] == drawn.loc[drawn["panel"] == panel, "part"].iloc[0]], medians)
        hues = list(paint[_asked(drawn, panel)])
        named_equal |= _direct(_asked(drawn, panel), hues) and len(coinciding(rows, hues)) < rows["hue"].nunique()
        near += hiding(rows, hues, scale)
    return named_equal, [group for group in near if len(group) > 1]


def _lost(medians: pd.DataFrame) -> bool:
    """Whether some line ends where half of its runs have broken down."""
    return bool((~np.isfinite(medians["middle"])).any())


def title(trained_parts: list[measures.Part], losses: pd.Series) -> str:
    """How many runs end their training below the dashed line, and how many break down, task by task."""
    if all(part.runs["broken"].all() for part in trained_parts):
        total = sum(len(part.runs) for part in trained_parts)
        return f"No run comes to the end of its training{'' if total == 1 else ': every one breaks down on its way'}."
    several = len(trained_parts) > 1
    told = [part for part in trained_parts if len(_told(part, losses))]
    if not told:
        on = "" if several else f"On {trained_parts[0].runs['task'].iloc[0]}, "
        return capital(f"{on}every recorded loss is from before training: how it ends is not drawn.")
    if not several:
        return _counted(told[0], losses, single=True)
    learnt = pd.concat([_learnt(part, losses) for part in told]).drop_duplicates("run_key")
    every = len(learnt) == pd.concat([part.runs for part in trained_parts])["run_key"].nunique()
    if every and learnt["learnt"].all():
        return f"Every run ends its training {BELOW}."
    if every and not learnt["learnt"].any():
        return f"No run ends its training {BELOW}."
    runs = [" runs", *[""] * (len(told) - 1)]
    texts = [
        f"{_counted(part, losses)}{word} ({facets.part_name(part, trained_parts)})"
        for part, word in zip(told, runs, strict=True)
    ]
    text = f"{listed(texts)} end training {BELOW}."
    if len(plain(text)) <= LONGEST_TITLE:
        return text
    count = marked_count(int(learnt["learnt"].sum()), "runs_below_baseline")
    return f"{count} of {marked_count(len(learnt), 'runs_with_end')} runs end training {BELOW}."


def _told(part: measures.Part, losses: pd.Series) -> pd.DataFrame:
    """The runs of which it is known how their training ends."""
    return part.runs[part.runs["broken"] | part.runs["run_key"].isin(losses.dropna().index)]


def _learnt(part: measures.Part, losses: pd.Series) -> pd.DataFrame:
    """These runs, and whether each was ``learnt``: came to the end of its training with a loss below the baseline."""
    runs = _told(part, losses)
    return runs.assign(learnt=~runs["broken"] & (runs["run_key"].map(losses) < runs["baseline_loss"]))


def _without_end(trained_parts: list[measures.Part], losses: pd.Series) -> str:
    """How many runs do not show how their training ends; nothing where none does, as the title says so."""
    runs = pd.concat([part.runs for part in trained_parts]).drop_duplicates("run_key")
    told = pd.concat([_told(part, losses) for part in trained_parts])["run_key"].nunique()
    without = len(runs) - told
    if not without or not told:
        return ""
    whose = f"Of {marked_count(without, 'runs_without_end')} {'run' if without == 1 else 'runs'}"
    return f"{whose}, every recorded loss is from before training: how {'it ends' if without == 1 else 'they end'} is not drawn."


def _counted(part: measures.Part, losses: pd.Series, single: bool = False) -> str:
    where = {"sweep": part.sweep, **part.fixed}
    runs = _learnt(part, losses)
    learnt, total, broken = (int(count) for count in (runs["learnt"].sum(), len(runs), runs["broken"].sum()))
    count = marked_count(learnt, "runs_below_baseline", **where)
    if learnt == total == len(part.runs) > 1 and single:
        every = "both" if total == 2 else f"all {count}"
        return f"On {part.runs['task'].iloc[0]}, {every} runs end training {BELOW}."
    of = marked_count(total, "runs_with_end", **where)
    breakdowns = f"; {marked_count(broken, 'broken', **where)} break{'s' if broken == 1 else ''} down" if broken else ""
    if not single:
        return f"{count} of {of}"
    task = part.runs["task"].iloc[0]
    if total == 1:
        return f"On {task}, training ends {BELOW if learnt else BELOW.replace('below', 'no lower than')}."
    return f"On {task}, {count} of {of} runs end training {BELOW}{breakdowns}."


def _by_value(part: measures.Part, trained_parts: list[measures.Part], losses: pd.Series) -> str:
    """The same count for every value of the axis that is asked about, where they differ."""
    if not part.column or part.runs["broken"].all():
        return ""
    learnt = _learnt(part, losses)
    by_share: dict[float, list[Any]] = {}
    columns = [value for value in part.columns if len(measures.where(learnt, **{part.column: value}))]
    for value in columns:
        rows = measures.where(learnt, **{part.column: value})
        by_share.setdefault(float(rows["learnt"].mean()), []).append(value)
    if len(by_share) < 2:
        return ""
    crowded = len(columns) > MOST_HUES  # then values with the same share are counted together
    groups = list(by_share.values()) if crowded else [[value] for value in columns]
    words = []
    for values in groups:
        rows = learnt[learnt[part.column].isin(values) | (learnt[part.column].isna() & (None in values))]
        where = {"sweep": part.sweep, **part.fixed, part.column: values if len(values) > 1 else values[0]}
        count = count_of(int(rows["learnt"].sum()), "runs_below_baseline", **where)
        names = few([named(part.column, value) for value in values], 3)
        words.append(f"{count} of {marked_count(len(rows), 'runs_with_end', **where)} with {names}")
    said = "; ".join(words if len(words) < 7 else [*words[:3], *words[-3:]])
    return f"Runs{facets.of_part(part, trained_parts)} that end below that loss{', among others' if len(words) > 6 else ''}: {said}."


def _from_the_start(data: pd.DataFrame) -> str:
    """How many runs are below the dashed line before they have learnt anything: it is of other sequences than the curves."""
    runs = data.drop_duplicates("run_key")
    below = int((runs["first_loss"] < runs["baseline_loss"]).sum())
    if not below:
        return ""
    if len(runs) == 1:
        return "At its first update, before anything is learnt, the run is below that loss already."
    of = f"{marked_count(below, 'runs_below_at_first')} of {marked_count(len(runs), 'runs_trained')} runs"
    return (
        f"At the first update, before anything is learnt, {of} {'is' if below == 1 else 'are'} below that loss already."
    )


def _groups(coincident: list[list[str]]) -> str:
    """a and b; c, d and e."""
    texts = list(dict.fromkeys(few(group) for group in coincident))
    return "; ".join(texts if len(texts) < 4 else [*texts[:2], f"{spelled(len(texts) - 2)} more groups"])


def _asked(data: pd.DataFrame, panel: Any) -> str:
    return str(data.loc[data["panel"] == panel, "asked"].iloc[0])


def _axes(data: pd.DataFrame) -> list[str]:
    return [singular_of(axis) for axis in data["asked"].unique() if axis]


def drawn_hues(data: pd.DataFrame) -> dict[str, list[str]]:
    """By axis, the values that have a curve: all, or some evenly spread."""
    return {asked: facets.spread(list(values), MOST_HUES) for asked, values in facets.hues(data).items()}


def _not_all_hues(data: pd.DataFrame) -> str:
    drawn = drawn_hues(data)
    some = [plural_of(asked) for asked, values in facets.hues(data).items() if len(values) > len(drawn[asked])]
    return f"Of the {listed(some)}, {spelled(MOST_HUES)} are drawn. The tables have all." if some else ""


def _banded(data: pd.DataFrame) -> bool:
    """Bands of more curves than a few would hide each other."""
    return data["seed"].nunique() > 1 and max(map(len, facets.hues(data).values())) <= MOST_BANDS


# ---- how it is drawn


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    data = data.dropna(subset=["panel"])
    counts = [rows["panel"].nunique() for _, rows in data.groupby("part", sort=True)]
    panels, paint, drawn = list(data["panel"].cat.categories), facets.hues(data), drawn_hues(data)
    figure, axes = layout.grid_by_part(counts, layout.columns(2 if max(counts) == 4 else 3), HEIGHT, AROUND_ALL)
    medians, banded = drawn_curves(data), _banded(data)
    for ax, panel, at_end in zip(axes, panels, layout.right_ends(axes, data), strict=True):
        rows = data[data["panel"] == panel]
        part = data[data["part"] == rows["part"].iloc[0]]
        asked = str(rows["asked"].iloc[0])
        panel_curves = medians[medians["panel"] == panel]
        ax.set_yscale("log")
        ax.set_ylim(*limits(part, medians))
        layout.plain_log_ticks(ax)
        ax.set_xlim(-0.02 * part["updates"].max(), part["updates"].max())
        ax.xaxis.set_major_locator(layout.whole_numbers())
        _baseline(ax, rows, paint[asked])
        _curves(ax, panel_curves, {hue: paint[asked][hue] for hue in drawn[asked]}, banded)
        runs = rows.drop_duplicates("run_key")
        layout.panel_title(ax, str(panel), 34)
        if broken := int(runs["broken"].sum()):
            layout.under_title(ax, f"{broken} of {len(runs)} break{'s' if broken == 1 else ''} down")
        _labels(ax, rows, panel_curves, paint[asked], at_end)
    _finish(figure, axes, data, paint)
    return figure


def limits(part: pd.DataFrame, medians: pd.DataFrame) -> tuple[float, float]:
    """One loss scale for all panels of a part: that of its lines and of the dashed one, of explosions only the beginning.

    What it has beyond them is a share of their range. A fixed factor would press lines that are close to each other into one.
    """
    baseline = part["baseline_loss"].dropna()
    own = medians[medians["panel"].isin(part["panel"].unique())]
    middle = own["middle"][np.isfinite(own["middle"]) & (own["middle"] > 0)]
    baseline = baseline[baseline > 0]  # of held-out sequences of one class it is zero, which no logarithmic scale has
    known = [*middle, *baseline]
    if not known:
        return 0.1, 1.0
    typical = max([*baseline, float(middle.median()) if len(middle) else 0.0])
    low, high = min(known), max(*baseline, min(float(max(known)), 10 * typical), 0.0) or typical
    beyond = max(1.0, math.sqrt(LEAST_RANGE * low / high))
    below, above = (min(most, (high / low) ** share) * beyond for share, most in MARGINS)
    return low / below, high * above


def _leave_above(drawn: pd.DataFrame, medians: pd.DataFrame) -> bool:
    """Whether a curve that comes to its end is above the scale of its part somewhere."""
    for _, part in drawn.groupby("part"):
        own = medians[medians["panel"].isin(part["panel"].unique())]
        whole = own.groupby(["panel", "hue"], observed=True)["middle"].transform(lambda curve: np.isfinite(curve).all())
        if (own.loc[whole.astype(bool), "middle"] > limits(part, medians)[1]).any():
            return True
    return False


def _baselines(rows: pd.DataFrame) -> pd.Series:
    """By hue the loss of a network that has learnt nothing, where that differs between hues; else one, of no name."""
    by_hue = rows.groupby("hue", observed=True)["baseline_loss"].mean().dropna()
    if len(by_hue) and by_hue.max() - by_hue.min() > APART * by_hue.max():
        return by_hue
    return by_hue.iloc[:1].rename(index=lambda _: "").map(lambda _: float(rows["baseline_loss"].mean()))


def _baseline(ax: Axes, rows: pd.DataFrame, paint: dict[str, tuple[Any, str]]) -> None:
    for hue, baseline in _baselines(rows).items():
        colour = paint[str(hue)][0] if hue else "#555555"
        ax.axhline(baseline, color=colour, lw=1.2, ls=(0, (4, 3)), zorder=0.5, gid="baseline")


def _curves(ax: Axes, panel_curves: pd.DataFrame, paint: dict[str, tuple[Any, str]], banded: bool) -> None:
    """Median lines with markers; × where half of the runs are lost, ▲ where a line leaves the scale."""
    low, high = ax.get_ylim()
    groups = hiding(panel_curves, list(paint), (low, high))
    place = {hue: (i, len(group)) for group in groups for i, hue in enumerate(group)}
    order = [hue for hue in paint if hue in place]
    finite = panel_curves[np.isfinite(panel_curves["middle"])]
    if banded:
        for hue in order:
            rows = finite[finite["hue"] == hue]
            ax.fill_between(
                rows["update"], rows["low"].clip(lower=low), rows["high"].clip(upper=high), color=paint[hue][0],
                alpha=0.14, lw=0, gid=f"band {hue}",
            )  # fmt: skip
    present = [hue for hue in order if (finite["hue"] == hue).any()]
    if present:
        crowd = len(present) > FEW_LINES
        thick, thin = (3.2, 1.3) if crowd else (4.2, 1.9)  # below, one that lies on others
        steps = finite["update"].nunique()
        points = max(1, min(max(steps // 6, len(present)), steps // 2))
        sns.lineplot(
            finite, x="update", y="middle", hue="hue", hue_order=present, estimator=None, legend=False, ax=ax,
            palette={hue: paint[hue][0] for hue in present}, style="hue", style_order=present, size="hue", size_order=present,
            sizes={hue: thick - (1.0 if crowd else 1.3) * min(place[hue][0], 2) if place[hue][1] > 1 else thin for hue in present},
            dashes={hue: _DASHES[min(place[hue][0], 2)] if place[hue][1] > 1 else "" for hue in present},
            markers={hue: paint[hue][1] for hue in present}, ms=5, mew=0.6,
        )  # fmt: skip
        for i, (line, hue) in enumerate(zip(ax.lines[-len(present) :], present, strict=True)):
            line.set_gid(f"loss {hue}")
            first = i * points // len(present)  # marks of two lines at one update would hide each other
            line.set_markevery((first % np.size(line.get_xdata()), points))
    for hue in present:
        rows = panel_curves[panel_curves["hue"] == hue].sort_values("update")
        _marks(ax, rows, paint[hue][0], low, high)
    for hue in (hue for hue in order if hue not in present):  # lost at once
        at = float(panel_curves.loc[panel_curves["hue"] == hue, "update"].min())
        ax.plot([at], [high], "X", ms=11, mec="white", color=paint[hue][0], clip_on=False, zorder=6, gid="lost")
    ax.set(xlabel="", ylabel="")


def _marks(ax: Axes, rows: pd.DataFrame, colour: Any, low: float, high: float) -> None:
    known = rows[np.isfinite(rows["middle"])]
    mark: dict[str, Any] = {"color": colour, "mec": "white", "clip_on": False, "zorder": 6, "ls": ""}
    if len(known) < len(rows):
        last = known.iloc[-1]
        ax.plot([last["update"]], [min(last["middle"], high)], marker="X", ms=11, gid="lost", **mark)
    above = known[known["middle"] > high]
    if len(above) and len(known) == len(rows):
        ax.plot([above["update"].iloc[0]], [high], marker="^", ms=7, gid="above", **mark)


def _labels(
    ax: Axes, rows: pd.DataFrame, panel_curves: pd.DataFrame, paint: dict[str, tuple[Any, str]], at_end: bool
) -> None:
    """Names at the ends of curves, of coinciding ones together, and what the dashed line is."""
    baseline, asked = float(_baselines(rows).max()), str(rows["asked"].iloc[0])
    labels: list[tuple[float, str, Any]] = []
    if math.isfinite(baseline) and at_end:
        labels.append((baseline, "learnt nothing", "#555555"))
    hues = [hue for hue in paint if (panel_curves["hue"] == hue).any()]
    if asked and _direct(asked, list(paint)):
        high = ax.get_ylim()[1]
        for group in coinciding(panel_curves, hues):
            ends = panel_curves[(panel_curves["hue"] == group[0])].sort_values("update")["middle"]
            known = ends[np.isfinite(ends)]
            end = float(known.iloc[-1]) if len(known) else high
            words = [_short(asked, rows, hue) for hue in group]
            words = [words[0], *(f"= {word}" for word in words[1:])]  # below each other, from the top
            labels += [(end, word, paint[hue][0]) for word, hue in zip(words[::-1], group[::-1], strict=True)]
    layout.label_lines(ax, labels, gap=layout.line_gap(ax, AROUND_ALL))


def _direct(asked: str, hues: list[str]) -> bool:
    """Whether names have room at the ends of the curves; of a learning rate the number alone stands there."""
    longest = max(map(len, hues), default=0)
    return len(hues) <= MOST_DIRECT and (asked == "learning_rate" or longest <= LONGEST_DIRECT)


def _short(asked: str, rows: pd.DataFrame, hue: str) -> str:
    """What the legend title or the unit does not say already."""
    return hue.rpartition("= ")[2] if asked == "learning_rate" else hue


def _finish(figure: Figure, axes: list[Axes], data: pd.DataFrame, paint: dict[str, dict[str, tuple[Any, str]]]) -> None:
    """Labels at the left and below, and the legend."""
    for ax, (first, _, lowest) in zip(axes, layout.edges(axes, data), strict=True):
        ax.tick_params(labelleft=first)
        ax.set_ylabel("training loss" if first else "")
        ax.set_xlabel("training update" if lowest else "")
    handles = _legend(data, paint, _lost(drawn_curves(data)))
    if handles:
        layout.legend_below(figure, handles, most=5)


def _legend(data: pd.DataFrame, paint: dict[str, dict[str, tuple[Any, str]]], lost_lines: bool) -> list[Any]:
    drawn = drawn_hues(data)
    handles: list[Any] = [
        Line2D([], [], color=paint[asked][hue][0], marker=paint[asked][hue][1], mec="white", ms=7, lw=2, label=hue)
        for asked in paint
        if asked and (not _direct(asked, list(paint[asked])) or asked == "learning_rate")
        for hue in drawn[asked]
    ]
    grey: dict[str, Any] = {"color": "#777777", "mec": "white", "ls": ""}
    if _banded(data):
        handles.append(Patch(color="#777777", alpha=0.3, lw=0, label="lowest to highest seed"))
    if lost_lines:
        lost = "half of the seeds have broken down" if data["seed"].nunique() > 1 else "the run has broken down"
        handles.append(Line2D([], [], marker="X", ms=8, label=lost, **grey))
    return handles
