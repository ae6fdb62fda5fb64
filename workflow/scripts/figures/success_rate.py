"""How many runs succeed, by the length of the sequences, and how many updates that takes."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from rnn_core.tasks import GENERATED
from study.report import drawing, facets, layout, measures, reader, statistics, style
from study.report.findings import Study
from study.report.phrases import counted, effect_words, interval_words, key_of, over_settings, too_few, where_of
from study.report.words import (
    capital,
    few,
    in_order,
    listed,
    marked,
    marked_count,
    named,
    number,
    ordered,
    percent,
    plain,
    signed,
    spelled,
    uncapital,
    whole,
)
from study.settings import axis_label

NOTHING = drawing.Nothing(
    "No run of this study says what counts as success.",
    "Add a sweep with updates: 1000 or more, a task such as temporal_order, and success_below: 0.01.",
)
RULES = ("clipping", "omega")  # what is done to the gradient makes a line, together with what the study asks about
MOST_PANELS = 9
ALL_RUNS = "all runs"  # the line of a study whose lines nothing tells apart
MOST_COUNTS = 3  # lines that a headline counts one by one
# Published: with these settings, so many of so many runs succeeded at these lengths, within ``updates``.
PASCANU = "Pascanu, Mikolov & Bengio 2013"
PUBLISHED: tuple[dict[str, Any], ...] = (
    {
        "source": PASCANU,
        "settings": {
            "task": "temporal_order", "activation": "tanh", "initializer": "pascanu_tanh", "spectral_radius": None, "hidden_size": 50,
            "batch_size": 20, "optimizer": "sgd", "learning_rate": 0.01, "clipping": "norm:1.0", "omega": 4.0, "success_below": 0.01,
        },
        "lengths": (50, 100, 150, 200), "succeeded": 5, "runs": 5, "updates": 5_000_000,
    },
)  # fmt: skip


# ---- what is drawn


def frame(tables: reader.Tables) -> pd.DataFrame:
    """One row a panel, line and length: ``rate`` with its interval, ``median`` of the updates to success with its, ``published``."""
    data = facets.trained_panels(tables.study, within, MOST_PANELS)
    if data.empty or data["success"].isna().all():
        return pd.DataFrame()
    data = data[data["success"].notna()].assign(line=lambda runs: _lines(tables.study, runs))
    groups = data.groupby(["panel", "line", "sequence_length"], observed=True, sort=True)
    rows = [_row(rows, tables.study.trained_parts[rows["part"].iloc[0]]) for _, rows in groups]
    placed = pd.DataFrame(rows)
    for name in ("panel", "line"):
        placed[name] = pd.Categorical(placed[name], data[name].cat.categories, ordered=True).remove_unused_categories()
    return placed.assign(left_out=data["left_out"].iloc[0]).sort_values(
        ["panel", "line", "sequence_length"], ignore_index=True
    )


def within(part: measures.Part) -> list[str | None]:
    """The axes that one panel shows: lines and x."""
    return [*line_axes(part), "sequence_length"]


def line_axes(part: measures.Part) -> list[str]:
    """What tells lines apart: what is done to the gradient, and what the study asks about."""
    asked = [part.column] if part.column and part.column != "sequence_length" else []
    return list(dict.fromkeys([*asked, *(axis for axis in RULES if axis in part.axes)]))


def _lines(study: Study, runs: pd.DataFrame) -> pd.Categorical:
    """Every run's line: in words, in the order of its settings."""
    settings = _line_settings(study, runs)
    if len(settings) == 1:
        return pd.Categorical([ALL_RUNS] * len(runs), [ALL_RUNS], ordered=True)
    axes = list(settings[0])
    words = [_named(each) for each in settings]
    by_key = {tuple(each.values()): word for each, word in zip(settings, words, strict=True)}
    keys = (tuple(map(key_of, row)) for row in runs[axes].itertuples(index=False, name=None))
    return pd.Categorical([by_key[key] for key in keys], words, ordered=True)


def _line_settings(study: Study, runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What tells the lines of these runs apart, line by line; of one line, nothing.

    A part that no run was asked of success in has no line, so what it varies names none.
    """
    asked = [part for part in study.trained_parts if part.runs["success"].notna().any()]
    every = dict.fromkeys(axis for part in asked for axis in line_axes(part))
    axes = [axis for axis in every if runs[axis].nunique(dropna=False) > 1]
    order = in_order(runs[axes].drop_duplicates(), axes) if axes else pd.DataFrame(index=[0])
    return [{str(axis): key_of(value) for axis, value in row.items()} for row in order.to_dict("records")]


def _named(settings: dict[str, Any]) -> str:
    """norm:1.0 and Ω weight = 4; without a regulariser nothing is said of it."""
    return listed([named(axis, value) for axis, value in settings.items() if (axis, value) != ("omega", 0.0)])


def _row(runs: pd.DataFrame, part: measures.Part) -> dict[str, Any]:
    """What the runs of one length of a line say, a seed being what is independent; ``where`` is their address."""
    success, first = runs["success"].astype(float), runs.iloc[0]
    seeds = int(runs["seed"].nunique())
    rate = statistics.proportion(float(success.mean()), seeds)
    took = statistics.median(runs.loc[runs["success"].astype(bool), "updates_to_success"].to_numpy(dtype=float))
    published = next((each for each in PUBLISHED if _is_of(first, each)), None)
    where = where_of(part, {axis: key_of(first[axis]) for axis in part.axes})
    return {
        "panel": first["panel"], "line": first["line"], "part": int(first["part"]), "sequence_length": int(first["sequence_length"]),
        "runs": len(runs), "succeeded": int(success.sum()), "seeds": seeds, "rate": rate.value, "low": rate.low, "high": rate.high,
        "median": took.value, "median_low": took.low, "median_high": took.high, "budget": int(runs["updates"].max()),
        "below": float(first["success_below"]), "task": str(first["task"]), "where": where,
        "published": math.nan if published is None else published["succeeded"] / published["runs"],
    }  # fmt: skip


def _is_of(run: pd.Series, published: dict[str, Any]) -> bool:
    """Whether a run's settings are the published ones, but for the number of updates."""
    if run["sequence_length"] not in published["lengths"]:
        return False
    return all(
        axis in run and (pd.isna(run[axis]) if value is None else run[axis] == value)
        for axis, value in published["settings"].items()
    )


# ---- what is said


def facts(data: pd.DataFrame, study: Study) -> drawing.Facts:
    if data.empty:
        return NOTHING.facts()
    text = _headline(study)
    names = facets.alt_list(data["panel"].cat.categories)
    alt = f"Line charts of the share of runs that succeed against T{names}. Below, the median number of updates to success. {text}"
    said, verdicts = _by_line(data), _verdicts(study)
    several_runs = bool((data["runs"] > data["seeds"]).any())
    claims = [
        _what_counts(data),
        *said,
        "In a range, a seed counts once, whatever its number of runs." if several_runs else "",
        *verdicts,
        *_published(data),
        facets.left_out(data, headline=True),
    ]
    shown = [
        name
        for name, there in (("published", data["published"].notna()), ("updates", data["median"].notna()))
        if there.any()
    ]
    several = data["sequence_length"].nunique() > 1
    shown += ["lengths"] if several else []
    return drawing.facts(
        text, alt, claims, shown, answer=[*(said if several else []), *verdicts]
    )  # findings count them, too


def _headline(study: Study) -> str:
    """20 of 30 runs succeed with norm:1.0 and 5 of 30 with no clipping; of many lines, which has most and which has fewest."""
    every = pd.concat([part.runs for part in study.trained_parts])
    asked = every[every["success"].notna()].drop_duplicates("run_key")
    settings, succeeded = _line_settings(study, asked), asked["success"].astype(bool)
    if not succeeded.any():
        return f"{'No run succeeds' if len(asked) > 1 else 'The run does not succeed'} within the updates that it has."
    if succeeded.all():
        return f"{capital(whole(len(asked)))} runs succeed." if len(asked) > 1 else "The run succeeds."
    if len(settings) == 1:
        return f"{_count_of(asked, {})} runs succeed."
    rows = {_named(each): (measures.where(asked, **each), each) for each in settings}
    counts = {line: _count_of(*own) for line, own in rows.items()}
    if len(rows) <= MOST_COUNTS:
        first, *others = counts
        return f"{listed([f'{counts[first]} runs succeed with {first}', *(f'{counts[line]} with {line}' for line in others)])}."
    shares = {line: float(own["success"].astype(float).mean()) for line, (own, _) in rows.items()}
    most, fewest = (
        [line for line in rows if shares[line] == end] for end in (max(shares.values()), min(shares.values()))
    )
    total = f"{_count_of(asked, {})} runs succeed"
    if most == fewest:
        return f"{total}{', as many with every line' if shares[most[0]] else ''}."
    return f"{total}: most with {few(most, 2)} ({counts[most[0]]}), fewest with {few(fewest, 2)} ({counts[fewest[0]]})."


def _count_of(runs: pd.DataFrame, where: dict[str, Any]) -> str:
    return _counted(int(runs["success"].astype(bool).sum()), len(runs), where)


def _counted(succeeded: int, runs: int, where: dict[str, Any]) -> str:
    return f"{marked_count(succeeded, 'succeeded', **where)} of {marked_count(runs, 'runs_to_succeed', **where)}"


def _what_counts(data: pd.DataFrame) -> str:
    """What success is, and how long a run may take for it."""
    below, budgets = sorted(data["below"].unique()), sorted(data["budget"].unique())
    share = listed(
        [marked(f"{number(100 * each, 3)} %", "setting", each, axis="success_below") for each in below], "or"
    )
    updates = listed([marked(_spaced(budget), "setting", budget, axis="updates") for budget in budgets], "or")
    tasks = [task for task in ordered("task", data["task"]) if task in GENERATED and GENERATED[task].wrong_if]
    wrong = "".join(f" On {task}, an answer is wrong if {GENERATED[task].wrong_if}." for task in tasks)
    within_ = f"within {counted(max(budgets), 'update', updates)}"
    return f"A run succeeds if it answers fewer than {share} of the held-out sequences wrongly, {within_}.{wrong}"


def _spaced(count: int) -> str:
    """5 000 000."""
    return f"{count:,}".replace(",", " ")


def _by_line(data: pd.DataFrame) -> list[str]:
    """Of every line, the longest T at which a run of it succeeds, panel by panel, and how many do there, with Wilson's interval."""
    said, never = [], []
    for line, rows in data.groupby("line", observed=True):
        start = "" if line == ALL_RUNS else f"with {line}, "
        if not rows["succeeded"].any():
            never.append(str(line))
            continue
        if rows["succeeded"].sum() == rows["runs"].sum() and not rows["left_out"].iloc[0]:
            if data["succeeded"].sum() < data["runs"].sum():  # else the headline says it
                said.append(capital(f"{start}every run succeeds."))
            continue
        panels = [(str(panel), own) for panel, own in rows.groupby("panel", observed=True)]
        without = [panel for panel, own in panels if not own["succeeded"].any()]
        reached = [
            _reached(panel if len(panels) > 1 else "", own, data) for panel, own in panels if panel not in without
        ]
        several = data["sequence_length"].nunique() > 1
        items = _by_length(reached) if several else _by_count(reached)
        none = f" No run succeeds for {few(without, 4)}." if without else ""
        if len(items) == 1:
            what = f"the longest T at which a run succeeds is {items[0]}" if several else items[0]
        else:
            what = f"{'a run succeeds up to this T' if several else 'so many runs succeed'}: {'; '.join(_some(items))}"
        said.append(capital(f"{start}{what}.") + none)
    if never and said:  # where none succeeds at all, the headline says it
        these = (
            f"with {listed(never)}"
            if len(never) < 3 and not any(" and " in line for line in never)
            else f"with these: {'; '.join(_some(never))}"
        )
        said.append(f"No run succeeds {these}.")
    return said


def _reached(panel: str, rows: pd.DataFrame, data: pd.DataFrame) -> tuple[str, str]:
    """The longest T at which a run succeeds, where there are several, and how many runs do there, with the panel's name if it needs one."""
    some = rows[rows["succeeded"] > 0]
    last = some.loc[some["sequence_length"].idxmax()]
    count = _counted(last["succeeded"], last["runs"], last["where"])
    spread = interval_words(
        statistics.Interval(last["rate"], last["low"], last["high"]), percent, "success_rate", **last["where"]
    )
    of_panel = f" for {panel}" if panel else ""
    if data["sequence_length"].nunique() == 1:
        return panel, f"{count} ({spread})"
    return marked_count(last["sequence_length"], "setting", axis="sequence_length"), f"{of_panel} ({count}, {spread})"


def _by_count(reached: list[tuple[str, str]]) -> list[str]:
    """6 of 6 (…) for a and b: panels with the same count together."""
    panels: dict[str, tuple[str, list[str]]] = {}  # by the count without its address
    for panel, count in reached:
        panels.setdefault(plain(count), (count, []))[1].append(panel)
    items = [f"{count}{f' for {few(names, 4)}' if any(names) else ''}" for count, names in panels.values()]
    return (
        items if len(items) > 1 else [items[0].replace(" (", " runs succeed (", 1)]
    )  # several stand behind "so many runs succeed"


def _some(items: list[str]) -> list[str]:
    """All of them, or the first four and how many more."""
    return items if len(items) <= 5 else [*items[:4], f"{spelled(len(items) - 4)} more"]


def _by_length(reached: list[tuple[str, str]]) -> list[str]:
    """50 for a (…) and b (…): panels of one length together, the longest first."""
    lengths = sorted({plain(length) for length, _ in reached}, key=lambda length: -int(length))
    words = []
    for length in lengths:
        own = [(marked_length, text) for marked_length, text in reached if plain(marked_length) == length]
        texts = [text if i == 0 else text.removeprefix(" for ") for i, (_, text) in enumerate(own)]
        words.append(f"{own[0][0]}{few(texts, 4)}")
    return words


def _verdicts(study: Study) -> list[str]:
    """Whether the lines differ, part by part and axis by axis, judged with all comparisons of the study."""
    texts: dict[str, tuple[str, list[str]]] = {}  # by the text without addresses: the text, and the parts that it is of
    for part in study.trained_parts:
        for axis in line_axes(part):
            for text in _verdict(axis, part, study.of(part, axis, "success", pooled=True)):
                texts.setdefault(plain(text), (text, []))[1].append(facets.part_name(part, study.trained_parts))
    return [capital(f"{f'for {listed(names)}, ' if any(names) else ''}{text}.") for text, names in texts.values()]


def _verdict(axis: str, part: measures.Part, compared: list[measures.Comparison]) -> list[str]:
    """Of one part: which value succeeds more often, or that nothing is clear."""
    clear = []
    for each in (each for each in compared if each.better):
        sign = 1.0 if each.better == "a" else -1.0
        better, worse = (each.a, each.b) if sign > 0 else (each.b, each.a)
        by = f"by {effect_words(each, sign)}{over_settings(each)}"
        clear.append(f"more runs succeed with {named(axis, better)} than with {named(axis, worse)}: {by}")
    if clear or not compared:
        return clear[:3]
    values = few([named(axis, value) for value in measures.comparable(part.runs, axis)], 4)
    if not any(each.differences.any() for each in compared):
        names = [named(axis, value) for value in measures.comparable(part.runs, axis)]
        alike = f"{names[0]} as with {names[1]}" if len(names) == 2 else f"each of {values}"
        return [f"as many runs succeed with {alike}, seed by seed"]
    if all(each.verdict == "few" for each in compared):
        return [f"{uncapital(too_few(compared[0]))} which of {values} succeeds more often"]
    return [f"there is no clear difference in how often runs succeed with {values}"]


def _published(data: pd.DataFrame) -> list[str]:
    """What others found with the same settings, within how many updates; ours minus theirs."""
    rows = data[data["published"].notna()]
    if rows.empty:
        return []
    known = PUBLISHED[0]
    lengths = listed(
        [marked_count(T, "setting", axis="sequence_length") for T in sorted(rows["sequence_length"].unique())]
    )
    where = {**rows["where"].iloc[0], "sequence_length": sorted(map(int, rows["sequence_length"].unique()))}
    theirs = " of ".join(marked_count(known[name], f"published_{name}") for name in ("succeeded", "runs"))
    within = marked(_spaced(known["updates"]), "published_updates", known["updates"])
    budget = int(rows["budget"].max())
    ours = statistics.proportion(rows["succeeded"].sum() / rows["runs"].sum(), int(rows["seeds"].min()))
    apart = statistics.apart(ours, statistics.proportion(known["succeeded"] / known["runs"], known["runs"]))
    write: Callable[[float], str] = lambda share: signed(round(100 * share), 3)  # noqa: E731
    spread = interval_words(apart, write, "published_difference", **where)
    return [
        f"Published ({known['source']}): {theirs} runs with {rows['line'].iloc[0]} succeed at T = {lengths}, within {within} updates.",
        f"Of ours, {_counted(int(rows['succeeded'].sum()), int(rows['runs'].sum()), where)} succeed within "
        f"{marked(_spaced(budget), 'setting', budget, axis='updates')} updates, a difference of "
        f"{marked(write(apart.value), 'published_difference', apart.value, **where)} points ({spread}).",
    ]


# ---- how it is drawn


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    panels, lines = list(data["panel"].cat.categories), list(data["line"].cat.categories)
    columns = layout.columns(min(3, len(panels)))
    bands = math.ceil(len(panels) / columns)
    figure, axes = layout.grid(2 * bands * columns, columns, height=2.2, extra=1.6, sharex=False)
    paint = {line: (style.CATEGORIES[i % len(style.CATEGORIES)], style.marker(i)) for i, line in enumerate(lines)}
    if len(lines) > 1 and "no clipping" in lines[0]:  # ink for none, as everywhere
        paint = {
            line: (style.INK if i == 0 else style.CATEGORIES[i - 1], style.marker(i)) for i, line in enumerate(lines)
        }
    took = data["median_high"].fillna(data["median"]).max(), data["median_low"].fillna(data["median"]).min()
    for i, panel in enumerate(panels):
        band, column = divmod(i, columns)
        above, below = axes[2 * band * columns + column], axes[(2 * band + 1) * columns + column]
        rows = data[data["panel"] == panel]
        _rates(above, rows, paint)
        _updates(below, rows, paint, took)
        if len(panels) > 1:
            layout.panel_title(above, str(panel), 30)
        for ax in (above, below):
            _lengths(ax, rows)
            ax.tick_params(labelleft=column == 0)
        below.set_xlabel(axis_label("sequence_length"))
        above.set_ylabel("runs that succeed" if column == 0 else "")
        below.set_ylabel("median updates\nto success" if column == 0 else "")
    for unused in range(len(panels), bands * columns):
        for half in (0, 1):
            axes[(2 * (bands - 1) + half) * columns + unused % columns].remove()
    layout.legend_below(figure, _legend(data, paint), most=4)
    return figure


def _least(rows: pd.DataFrame) -> float:
    """The smallest distance between two lengths."""
    lengths = np.sort(rows["sequence_length"].unique())
    return float(np.diff(lengths).min()) if len(lengths) > 1 else 1.0


def _places(rows: pd.DataFrame, paint: dict[str, tuple[Any, str]]) -> Iterator[tuple[str, Any, str, pd.DataFrame]]:
    """Of every line of a panel its name, colour, marker and rows, with ``x``: a little to the side, so that bars do not hide each other."""
    present = [line for line in paint if (rows["line"] == line).any()]
    for i, line in enumerate(present):
        at = rows[rows["line"] == line]
        aside = (i - (len(present) - 1) / 2) * min(0.1, 0.3 / len(present)) * _least(rows)
        yield line, *paint[line], at.assign(x=at["sequence_length"] + aside)


def _rates(ax: Axes, rows: pd.DataFrame, paint: dict[str, tuple[Any, str]]) -> None:
    for line, colour, marker, at in _places(rows, paint):
        reach = np.abs(at[["low", "high"]].to_numpy().T - at["rate"].to_numpy())
        ax.errorbar(
            at["x"], at["rate"], yerr=reach, color=colour, marker=marker, ms=6, mec="white", mew=0.8, lw=1.6, elinewidth=1.2, capsize=2.5,
            clip_on=False, zorder=3, gid=f"rate {line}",
        )  # fmt: skip
        known = at[at["published"].notna()]
        if known.empty:  # a line without points would have a place at the corner
            continue
        ax.plot(
            known["sequence_length"], known["published"], ls="", marker="*", ms=13, mfc="none", mec=colour, mew=1.4, clip_on=False, zorder=4,
            gid="published",
        )  # fmt: skip
    ax.set_ylim(-0.04, 1.04)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, 0, " %"))


def _updates(ax: Axes, rows: pd.DataFrame, paint: dict[str, tuple[Any, str]], took: tuple[float, float]) -> None:
    """On a logarithmic scale, the same in all panels, with the budget as a line."""
    budget = float(rows["budget"].max())
    high, low = (end if math.isfinite(end) else budget for end in took)
    ax.set_yscale("log")
    ax.set_ylim(min(low, budget / 4) / 1.4, max(high, budget) * 1.4)
    ax.axhline(budget, color="#555555", lw=1.2, ls=(0, (4, 3)), zorder=0.5, gid="budget")
    for line, colour, marker, every in _places(rows, paint):
        at = every[every["median"].notna()]
        if at.empty:
            continue
        ends = at[["median_low", "median_high"]].to_numpy().T
        reach = np.nan_to_num(np.abs(ends - at["median"].to_numpy()))
        ax.errorbar(
            at["x"], at["median"], yerr=reach, color=colour, marker=marker, ms=6, mec="white",
            mew=0.8, lw=1.6, elinewidth=1.2, capsize=2.5, zorder=3, gid=f"updates {line}",
        )  # fmt: skip
    if rows["median"].isna().all():
        ax.text(0.5, 0.4, "no run succeeds", transform=ax.transAxes, ha="center", color="#555555", gid="none")
    layout.plain_log_ticks(ax)


def _lengths(ax: Axes, rows: pd.DataFrame) -> None:
    lengths = np.sort(rows["sequence_length"].unique())
    margin = 0.04 * (lengths[-1] - lengths[0]) + 0.2 * _least(rows)
    ax.set_xlim(lengths[0] - margin, lengths[-1] + margin)
    ax.set_xticks(facets.spread(list(lengths), 6))


def _legend(data: pd.DataFrame, paint: dict[str, tuple[Any, str]]) -> list[Line2D]:
    handles = [
        Line2D([], [], color=colour, marker=marker, ms=7, mec="white", lw=1.8, label=line)
        for line, (colour, marker) in paint.items()
    ]
    grey: dict[str, Any] = {"color": "#777777"}
    handles.append(Line2D([], [], lw=1.2, ls=(0, (4, 3)), label="updates that a run has", **grey))
    if data["published"].notna().any():
        handles.append(Line2D([], [], ls="", marker="*", ms=12, mfc="none", label=f"published ({PASCANU})", **grey))
    return handles
