"""Remedies side by side: what each does to gradients at the start, to what is learnt, and to the cost of an update."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from study.report import drawing, layout, measures, reader, statistics, style
from study.report.findings import Study
from study.report.phrases import interval_words
from study.report.words import (
    LONGEST_TITLE,
    ROUNDING,
    few,
    in_brackets,
    itemized,
    listed,
    marked,
    marked_count,
    name_of,
    named,
    number,
    ordered,
    percent,
    plain,
    signed,
    spelled,
)
from study.settings import described_axes
from study.tables.columns import columns_of

NOTHING = drawing.Nothing(
    "This study does not train on one task in two ways, so there are no remedies to compare.",
    "Add sweeps with updates: 100 or more that differ in initializer, cell, forget_bias, clipping or optimizer.",
)
MOST_REMEDIES = 16  # rows that the picture has room for
RESULTS = ("held_out_accuracy", "held_out_loss")  # qualities that a remedy does not have whose runs all broke down
NOT_OF_BROKEN = (*RESULTS, "update_milliseconds")
MOST_WORDS = 14  # of names in a sentence
NO_RESULT = "No remedy has a result: every run breaks down."
FLAT = 1e-9  # relative range of values that are alike
SHARED = (*measures.NOT_COMPARED, "task")
BEST, FAINT, UNTESTED = "#D55E00", "#9a9a9a", "#56748f"


# ---- the columns of the figure


@dataclass(frozen=True)
class Quality:
    """What remedies are compared by.

    Attributes:
        label: its name in a sentence; ``heading`` above its panel.
        ahead: what the best remedy is in it.
        score: what is lower for the better remedy, from the values.
        write: a value in words.
        log: it is averaged, and drawn, as a logarithm.
        share: it lies between 0 and 1, and so does its interval.
        tested: whether seeds are independent in it. How long a run takes depends on what else the machine does, for all its seeds alike.
    """

    label: str
    heading: str
    ahead: str
    score: Callable[[pd.Series], pd.Series]
    write: Callable[[float], str]
    log: bool = False
    tested: bool = True
    share: bool = False

    def interval(self, values: pd.Series) -> statistics.Interval:
        """Mean over seeds with its interval, of logarithms the geometric mean; where a value is infinite, the median."""
        known = values.dropna().to_numpy(dtype=float)
        if np.isinf(known).any():
            return statistics.median(known)
        if self.log:
            return statistics.Interval(*(10.0**end for end in statistics.mean(np.log10(np.maximum(known, 1e-300)))))
        average = statistics.mean(known)
        ends = (min(max(end, 0.0), 1.0) if self.share and math.isfinite(end) else end for end in average[1:])
        return statistics.Interval(average.value, *ends)


def _least(values: pd.Series) -> pd.Series:
    return np.log10(values.clip(lower=1e-300))


def _signed(value: float) -> str:
    return signed(value, 2)


def _milliseconds(value: float) -> str:
    return f"{number(value, 3)} ms"


def _updates(value: float) -> str:
    return "never" if math.isinf(value) else number(value, 3)


_SHORT = partial(number, digits=3)
QUALITIES: dict[str, Quality] = {
    "growth_rate": Quality("growth rate at the start", "growth rate at\nthe start (ln\nper step back)", "nearest to zero", pd.Series.abs, _signed),
    "lyapunov_max": Quality("largest Lyapunov exponent", "Lyapunov\nexponent λ₁\n(ln per step)", "nearest to zero", pd.Series.abs, _signed),
    "surviving_directions": Quality("number of surviving directions", "directions that\nkeep 1 % of\nthe gradient", "highest", pd.Series.__neg__, _SHORT),
    "held_out_accuracy": Quality("held-out accuracy", "held-out\naccuracy", "highest", pd.Series.__neg__, percent, share=True),
    "held_out_loss": Quality("held-out loss", "held-out\nloss", "lowest", _least, _SHORT, log=True),
    "updates_to_success": Quality("number of updates to success", "updates to\nsuccess", "lowest", _least, _updates, log=True),
    "update_milliseconds": Quality("wall time per update", "wall time per\nupdate (ms)", "lowest", _least, _milliseconds, log=True, tested=False),
}  # fmt: skip


# ---- what is drawn


def frame(tables: reader.Tables) -> pd.DataFrame:
    """One row a run and quality: ``value``, and ``score``, which is lower for the better. ``remedy`` names the run's settings, the best result first.

    Of several tasks it is that with the most runs (``_one_task``). ``no_result``: every run of the remedy broke down. It has no held-out values and stands last.
    ``flossed``: its networks were flossed before.
    """
    known = {column.name for column in columns_of("runs")}
    asked = [name for name in QUALITIES if name in known]
    end = (
        "baseline_accuracy", "baseline_loss", "first_nonfinite_update", "held_out_accuracy", "held_out_loss", "updates_to_success",
    )  # fmt: skip
    runs = measures.trained(tables.runs(*dict.fromkeys([*asked, *end])))
    if runs.empty:
        return pd.DataFrame()
    runs, task, others = _one_task(runs)
    axes = [axis for axis in described_axes() if axis not in SHARED and _tells(runs, axis)]
    timings = tables.read("timings", ["run_key", "seconds"]).drop_duplicates("run_key")
    groups = measures.grouped(_with_costs(runs, timings), axes)
    if len(groups) < 2:
        return pd.DataFrame()
    telling = measures.varied(runs, ("task",))  # enough for an address
    names, usual = _names([chosen for chosen, _ in groups])
    rows = [_rows(name, {axis: chosen[axis] for axis in telling}, own, asked) for name, (chosen, own) in zip(names, groups, strict=True)]  # fmt: skip
    data = _in_order(pd.concat(rows, ignore_index=True))
    return data.assign(usual=usual, task=task, other_tasks=few(others or [""]))


def _one_task(runs: pd.DataFrame) -> tuple[pd.DataFrame, str, list[str]]:
    """The runs of the task with the most of them, its name, and the names of the others.

    Settings that change what is achieved without learning make tasks of their own: a longer sequence is no remedy. Of those with as many
    runs it is the last, of lengths the longest.
    """
    tasks = ordered("task", runs["task"])
    task = str(runs["task"].value_counts(sort=True).index[0])
    runs = runs[runs["task"] == task]
    kinds = measures.grouped(runs, measures.task_axes(measures.results(runs)))
    chosen, own = max(reversed(kinds), key=lambda kind: len(kind[1]))
    names = [_of_kind(task, each) for each, _ in kinds if each != chosen]
    return own, _of_kind(task, chosen), [*names, *(each for each in tasks if each != task)]


def _of_kind(task: str, chosen: dict[str, Any]) -> str:
    """drift, or drift (T = 30)."""
    return in_brackets([task, *(named(axis, value) for axis, value in chosen.items())])


def _tells(runs: pd.DataFrame, axis: str) -> bool:
    """Whether a setting tells ways of training apart. One that only a user's own cell does not have, and all others alike, does not."""
    if axis in measures.OF_CELLS or runs[axis].nunique() > 1:
        return bool(runs[axis].nunique(dropna=False) > 1)
    without = runs[axis].isna().groupby(runs["cell"]).nunique()
    return bool(runs[axis].isna().any() and runs[axis].notna().any() and (without > 1).any())


def _names(settings: list[dict[str, Any]]) -> tuple[list[str], str]:
    """A name for every remedy, and what goes without saying: the settings that more than half of them have."""
    usual = {}
    for axis in settings[0] if len(settings) > 2 else ():
        values = [_plain(each[axis]) for each in settings]
        commonest = max(values, key=values.count)
        if axis != "cell" and commonest is not None and 2 * values.count(commonest) > len(values):
            usual[axis] = commonest
    short = [{a: v for a, v in each.items() if a not in usual or _plain(v) != usual[a]} for each in settings]
    names = [name_of(each) if each else "as usual" for each in short]
    if len(set(names)) < len(names):
        return [name_of(each) for each in settings], ""
    return names, listed(named(axis, value) for axis, value in usual.items()) if usual else ""


def _plain(value: Any) -> Any:
    return None if pd.isna(value) else value


def _with_costs(runs: pd.DataFrame, timings: pd.DataFrame) -> pd.DataFrame:
    """With ``update_milliseconds``, the wall time of a run over the updates that it made; the result of a run that broke down is what nothing learnt gets."""
    runs = measures.results(runs).merge(timings, on="run_key", how="left")
    made = runs["updates"].where(runs["first_nonfinite_update"].isna(), runs["first_nonfinite_update"] + 1)
    made = runs["updates_to_success"].fillna(made)  # a run that succeeds ends there
    loss = measures.counted(runs["held_out_loss"], runs["baseline_loss"], runs["broken"])
    accuracy = runs["result"].where(runs["metric"] == "held_out_accuracy", runs["held_out_accuracy"])
    whole = runs[
        "first_nonfinite_update"
    ].isna()  # what a run costs once, over the few updates before it broke down, is no cost of an update
    took = (1000.0 * runs["seconds"] / made).where(whole | ~whole.any())
    return runs.assign(update_milliseconds=took, held_out_loss=loss, held_out_accuracy=accuracy)


def _rows(name: str, chosen: dict[str, Any], runs: pd.DataFrame, asked: Iterable[str]) -> pd.DataFrame:
    """The values of one remedy, quality after quality; of those that no run has, none."""
    where = json.dumps(
        {axis: None if pd.isna(v) else getattr(v, "item", lambda v=v: v)() for axis, v in chosen.items()}
    )
    qualities = [*asked, "update_milliseconds"]
    values = runs[qualities].astype(float).to_numpy().T.ravel()
    seeds = np.tile(runs["seed"].to_numpy(), len(qualities))
    data = pd.DataFrame(
        {"quality": np.repeat(np.array(qualities, dtype=object), len(runs)), "seed": seeds, "value": values}
    )
    no_result = bool(runs["broken"].all())
    if no_result:
        data.loc[data["quality"].isin(RESULTS), "value"] = math.nan
    return data.assign(remedy=name, where=where, no_result=no_result, metric=runs["metric"].iloc[0], baseline=runs["baseline"].mean(), flossed=bool(runs["flossing"].gt(0).any()), some_untimed=bool(runs["update_milliseconds"].isna().any()))  # fmt: skip


def _in_order(data: pd.DataFrame) -> pd.DataFrame:
    """Sorted by result, as it is drawn, with scores; of qualities that some remedy has."""
    metric = str(data["metric"].iloc[0])
    sign = -1.0 if metric == "held_out_accuracy" else 1.0
    results = data[data["quality"] == metric].groupby("remedy", sort=False)["value"]
    drawn = results.apply(lambda values: sign * QUALITIES[metric].interval(values).value)
    order = drawn.sort_values(kind="stable", na_position="last").index.tolist()
    succeeded = data["quality"].eq("updates_to_success")
    if data.loc[succeeded, "value"].notna().any():
        data.loc[succeeded, "value"] = data.loc[succeeded, "value"].fillna(math.inf)  # the budget ended
        data = data[data["quality"].ne("held_out_loss") | data["metric"].eq("held_out_loss")]
    data = data.dropna(subset=["value"])
    present = [name for name in QUALITIES if (data["quality"] == name).any()]
    data["score"] = pd.concat([QUALITIES[name].score(data.loc[data["quality"] == name, "value"]) for name in present])
    data["remedy"] = pd.Categorical(data["remedy"], categories=order, ordered=True)
    data["quality"] = pd.Categorical(data["quality"], categories=present, ordered=True)
    return data.sort_values(["quality", "remedy", "seed"], ignore_index=True)


# ---- which is best


@dataclass(frozen=True)
class Best:
    """The best remedy by one quality.

    Attributes:
        tied: the remedies that are as good in every seed.
        level: the others that are not clearly worse.
        behind: those that are.
        seeds: the fewest that it shares with another remedy.
    """

    remedy: str
    tied: list[str]
    level: list[str]
    behind: list[str]
    seeds: int

    @property
    def others(self) -> int:
        return len(self.tied) + len(self.level) + len(self.behind)

    @property
    def leaders(self) -> list[str]:
        """Those with the best mean; none where all have the same."""
        return [self.remedy, *self.tied] if self.level or self.behind or not self.tied else []

    @property
    def clear(self) -> bool:
        """Whether all others are clearly worse, but for those that are as good in every seed."""
        return self.seeds >= statistics.FEWEST_SEEDS and not self.level and bool(self.behind or not self.tied)


def bests(data: pd.DataFrame) -> dict[str, Best]:
    """The best by every quality. Every pair of remedies is compared by every quality, all judged together, for the best is chosen from the same seeds."""
    seeds = sorted(set(data["seed"]))
    scores = {
        str(quality): rows.pivot_table(index="seed", columns="remedy", values="score", observed=True).reindex(seeds)
        for quality, rows in data.groupby("quality", observed=True)
    }
    clearly = _clearly_better({quality: wide for quality, wide in scores.items() if QUALITIES[quality].tested})
    best_by = {}
    for quality, wide in scores.items():
        first = _leader(wide)
        others = [str(other) for other in wide.columns if other != first]
        with np.errstate(invalid="ignore"):
            shared = wide[others].rsub(wide[first], axis=0).notna().sum()  # never on both sides says nothing
        behind = [other for other in others if (quality, first, other) in clearly]
        level = [other for other in others if other not in behind]
        tied = [other for other in level if wide[first].equals(wide[other].rename(first))]
        level = [other for other in level if other not in tied]
        best_by[quality] = Best(first, tied, level, behind, int(shared.min()) if others else 0)
    return best_by


def _clearly_better(scores: dict[str, pd.DataFrame]) -> set[tuple[str, str, str]]:
    """(quality, a remedy, another that is clearly worse), of tables with a row a seed. A lower score is better."""
    pairs = {quality: np.triu_indices(len(wide.columns), 1) for quality, wide in scores.items()}
    with np.errstate(invalid="ignore"):
        apart = [scores[q].to_numpy()[:, a] - scores[q].to_numpy()[:, b] for q, (a, b) in pairs.items()]
    if not apart:
        return set()
    judged = np.split(
        statistics.familywise(measures.finite(np.concatenate(apart, axis=1))),
        np.cumsum([each.shape[1] for each in apart])[:-1],
    )
    clearly = set()
    for (quality, (one, other)), p, differences in zip(pairs.items(), judged, apart, strict=True):
        worse = np.nansum(np.clip(differences, -1e300, 1e300), axis=0) > 0
        better_first = np.where(worse, [other, one], [one, other]).T[p <= statistics.LEVEL]
        names = scores[quality].columns
        clearly |= {(quality, str(names[a]), str(names[b])) for a, b in better_first}
    return clearly


def _leader(scores: pd.DataFrame) -> str:
    """The remedy with the fewest infinite scores, and of these the best mean of the others."""
    infinite = np.isinf(scores).mean()
    means = scores.where(np.isfinite(scores)).mean().fillna(math.inf)
    return str(min(scores.columns, key=lambda remedy: (infinite[remedy], means[remedy])))


# ---- what is said


def facts(data: pd.DataFrame, study: Study) -> drawing.Facts:
    if data.empty:
        return NOTHING.facts()
    best = bests(data)
    title = NO_RESULT if data["no_result"].all() else _title(best, len(data["remedy"].cat.categories))
    names = [QUALITIES[name].label for name in best]
    alt = f"Dot plots of {listed(names)}. Each row is a remedy: {few(map(str, data['remedy'].cat.categories), 4)}. {plain(title)}"
    usual = data["usual"].iloc[0]
    said = [_claim(data, name, each) for name, each in best.items()]
    claims = [_of_task(data), f"Where a row says nothing else, it is {usual}." if usual else "", _without_result(data), *said, _cut(data)]  # fmt: skip
    shown = [*best, *(["interval"] if data["seed"].nunique() > 1 else [])]
    shown += [f"geometric: {QUALITIES[name].label}" for name in best if QUALITIES[name].log and "interval" in shown]
    shown += ["flossing"] if data["flossed"].any() else []
    shown += ["cut"] if len(data["remedy"].cat.categories) > MOST_REMEDIES else []
    shown += ["median"] if np.isinf(data.loc[data["quality"] != "updates_to_success", "value"]).any() else []
    shown += ["untimed"] if data["some_untimed"].any() else []
    shown += ["open"] if _has_arrow(data) else []
    shown += ["clear"] if any(each.clear for each in best.values()) else []
    return drawing.facts(title, alt, claims, shown, answer=said)


def _of_task(data: pd.DataFrame) -> str:
    """Of several tasks, which one is drawn: a result on another has another scale."""
    task, others = str(data["task"].iloc[0]), str(data["other_tasks"].iloc[0])
    return f"These are the runs on {task}. The tables have those on {others}, too." if others else ""


def _without_result(data: pd.DataFrame) -> str:
    """Which remedies broke down in every run."""
    remedies = list(data["remedy"].cat.categories)
    without = [name for name in remedies if data.loc[data["remedy"] == name, "no_result"].all()]
    if not without or len(without) == len(remedies):  # the title says it of all
        return ""
    count = f"{marked_count(len(without), 'remedies_without_result')} of {_count(len(remedies))} remedies"
    return f"{count} {'has' if len(without) == 1 else 'have'} no result, because every run broke down, and {'stands' if len(without) == 1 else 'stand'} last: {_some(without, 4)}."


def _cut(data: pd.DataFrame) -> str:
    """How many remedies the picture has no room for."""
    without_room = list(data["remedy"].cat.categories)[MOST_REMEDIES:]
    if not without_room:
        return ""
    count = marked_count(len(without_room), "remedies_not_drawn")
    are = "is" if len(without_room) == 1 else "are"
    return f"{count} of the remedies {are} compared, but not drawn, because there is no room: {_some(without_room, 4)}."


def _title(best: dict[str, Best], remedies: int) -> str:
    best = {name: each for name, each in best.items() if QUALITIES[name].tested}
    if max((each.seeds for each in best.values()), default=0) < statistics.FEWEST_SEEDS:
        return f"Too few seeds to tell which of {_count(remedies)} remedies is best: at least {spelled(statistics.FEWEST_SEEDS)} are needed."
    clear: dict[str, list[str]] = {}
    several = False
    for name, each in best.items():
        if each.clear:
            clear.setdefault(_some([each.remedy, *each.tied], 3), []).append(QUALITIES[name].label)
            several |= bool(each.tied)
    if not clear:
        return f"Of {_count(remedies)} remedies, none is clearly ahead of all others by any measure."
    if len(clear) == 1 and len(next(iter(clear.values()))) == len(best):
        return f"Of {_count(remedies)} remedies, {next(iter(clear))} {'are' if several else 'is'} clearly the best by every measure."
    text = f"Clearly best: {itemized(f'{remedy} in {listed(labels)}' for remedy, labels in clear.items())}."
    if len(text) <= LONGEST_TITLE:
        return text
    by = sum(map(len, clear.values()))
    return f"By {by} of {len(best)} measures one of {_count(remedies)} remedies is clearly the best, and it is not always the same."


def _some(remedies: list[str], most: int) -> str:
    """At most so many names, and fewer of long ones: a sentence of three has no end otherwise."""
    while most > 2 and len(few(remedies, most).split()) > MOST_WORDS:
        most -= 1
    return few(remedies, most)


def _count(remedies: int) -> str:
    return marked_count(remedies, "remedies")


def _claim(data: pd.DataFrame, name: str, best: Best) -> str:
    """Which remedy is the best by one measure, by how much, and whether that is clear."""
    quality = QUALITIES[name]
    rows = data[(data["quality"] == name) & (data["remedy"] == best.remedy)]
    interval, where = quality.interval(rows["value"]), json.loads(rows["where"].iloc[0])
    value = marked(quality.write(interval.value), "remedy_value", interval.value, quality=name, **where)
    spread = interval_words(interval, quality.write, "remedy", quality=name, **where)
    spread = f" ({spread}, a 95 % interval)" if spread else ""
    if math.isinf(interval.value):
        why = (
            "with no remedy do more than half of the runs succeed"
            if name == "updates_to_success"
            else "with every remedy it is infinite for at least half of the networks"
        )
        return f"The {quality.label} cannot be compared: {why}."
    value += " in the median" if np.isinf(rows["value"]).any() else ""
    said = f"The {quality.label} is {quality.ahead} for {_some([best.remedy, *best.tied], 3)}: {value}{spread}"
    if best.tied and not (best.level or best.behind):
        which = "both remedies" if len(best.tied) == 1 else "all remedies"
        return f"The {quality.label} is the same for {which}, seed by seed: {value}{spread}."
    if not best.others or not quality.tested:
        return f"{said}."
    if best.seeds < statistics.FEWEST_SEEDS:
        return f"{said}. Too few seeds to tell whether that is chance."
    if not best.level:
        return f"{said}, clearly ahead of {'the other' if len(best.behind) == 1 else 'all others'}."
    if not best.behind:
        return f"{said}, not clearly ahead of {'the' if best.others == 1 else 'any'} other."
    if len(best.level) <= len(best.behind):
        return f"{said}, clearly ahead of all but {_some(best.level, 4)}."
    return f"{said}, clearly ahead of {_some(best.behind[::-1], 3)} only."


# ---- how it is drawn


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    best, remedies = bests(data), list(data["remedy"].cat.categories)[:MOST_REMEDIES]
    across = layout.columns(len(best))
    names = [layout.wrapped(name, layout.columns(34, 26)) for name in remedies]
    row = max(0.27, 0.17 * max(name.count("\n") + 1 for name in names))
    figure, axes = layout.grid(len(best), across, row * len(remedies) + 0.55, 1.5, sharex=False, sharey=True)
    for i, (ax, name) in enumerate(zip(axes, best, strict=True)):
        _panel(ax, data[data["quality"] == name], name, best[name], remedies)
        ax.set_title(QUALITIES[name].heading, loc="left", fontsize=9, va="bottom")
        ax.tick_params(labelleft=i % across == 0, length=0, axis="y")
    axes[0].set_ylim(len(remedies) - 0.5, -0.5)
    for ax in axes[::across]:
        ax.set_yticks(range(len(remedies)), names)
    layout.legend_below(figure, _legend(best), most=4, on_a_phone=2)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, name: str, best: Best, remedies: list[str]) -> None:
    """A dot a remedy, with its interval; the best is a star, and what is clearly worse is faint."""
    quality = QUALITIES[name]
    ends: list[float] = []
    arrows: list[tuple[int, float, bool, str]] = []
    for place, remedy in enumerate(remedies):
        own = rows[rows["remedy"] == remedy]
        interval = quality.interval(own["value"])
        if not math.isfinite(interval.value):
            words = quality.write(interval.value) if len(own) else "no result" if name in NOT_OF_BROKEN else ""
            ax.annotate(
                words, (1, place), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=9, gid="no dot"
            )
            continue
        ends += [end for end in interval if math.isfinite(end)]
        first = remedy in best.leaders
        level = remedy not in best.behind or best.seeds < statistics.FEWEST_SEEDS or not quality.tested
        colour = BEST if first else FAINT if not level else style.INK if quality.tested else UNTESTED
        low, high = (end if math.isfinite(end) else interval.value for end in interval[1:])
        arrows += [(place, interval.value, end > 0.0, colour) for end in interval[1:] if math.isinf(end)]
        ax.plot([low, high], [place, place], color=colour, lw=1.6, solid_capstyle="butt", zorder=2, gid="interval")
        ax.plot(
            interval.value, place, color=colour, marker="*" if first else "o", ms=11 if first else 5.5, ls="",
            mfc=colour if first or level else "white", mew=1.2 if not first else 0.0, zorder=3, gid=f"{name} {remedy}",
        )  # fmt: skip
    _scale(ax, name, ends, float(rows["baseline"].iloc[0]), str(rows["metric"].iloc[0]))
    for each in arrows:
        _arrow(ax, *each)
    for place in range(len(remedies)):
        ax.axhline(place, color="#eeeeee", lw=0.8, zorder=0)


def _arrow(ax: Axes, place: int, value: float, upward: bool, colour: str) -> None:
    """An end of an interval that is infinite: a line to the edge, with an arrow."""
    limits = ax.get_xlim()
    edge = limits[1] if upward else limits[0]
    ax.plot([value, edge], [place, place], color=colour, lw=1.6, solid_capstyle="butt", zorder=2, gid="open interval")
    ax.plot(
        edge, place, marker=">" if upward else "<", color=colour, ms=6, mew=0.0, clip_on=False, zorder=3, gid="arrow"
    )
    ax.set_xlim(limits)


def _has_arrow(data: pd.DataFrame) -> bool:
    """Whether an interval of a finite dot has an infinite end."""
    drawn = data[data["remedy"].isin(list(data["remedy"].cat.categories)[:MOST_REMEDIES])]
    intervals = [
        QUALITIES[str(name)].interval(rows["value"])
        for (name, _), rows in drawn.groupby(["quality", "remedy"], observed=True)
    ]
    return any(math.isfinite(each.value) and np.isinf(each[1:]).any() for each in intervals)


def _scale(ax: Axes, name: str, ends: list[float], baseline: float, metric: str) -> None:
    """The x axis: a line at zero, or at what nothing learnt gets, and few ticks; without a dot, none."""
    if not ends:
        ax.set_xticks([])
        return
    if name in ("growth_rate", "lyapunov_max"):
        ax.axvline(0.0, color="#777777", lw=0.9, zorder=1)
    reach = list(ends)
    if name == metric and math.isfinite(baseline):
        reach.append(baseline)
        ax.axvline(baseline, color="#777777", lw=1.1, ls=(0, (4, 3)), zorder=1, gid="baseline")
    if QUALITIES[name].log and 0.0 < 10.0 * min(reach) < max(reach):
        ax.set_xscale("log")
        low, high = min(reach) / 1.15, max(reach) * 1.15
        ax.set_xlim(low, high)
    elif _alike(ends):
        middle = ends[0]  # all alike: ticks of a range of nothing would repeat one number
        aside = 0.1 if QUALITIES[name].share or not middle else 0.2 * abs(middle)
        ax.set_xlim(middle - aside, middle + aside)
    else:
        ax.margins(x=0.12)
    low, high = ax.get_xlim()
    logarithmic = ax.get_xscale() == "log"
    steps = layout.DECADES, layout.WITHIN_DECADE
    locator = layout.log_locator(low, high, *steps) if logarithmic else MaxNLocator(3, steps=[1, 2, 5, 10])
    inside = [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]
    ax.set_xticks(inside[:: math.ceil(len(inside) / 3)] if inside else [])  # names of more would touch each other
    ax.xaxis.set_minor_locator(NullLocator())
    percents = name == "held_out_accuracy"
    ax.xaxis.set_major_formatter(
        PercentFormatter(1.0, 0, " %") if percents else FuncFormatter(lambda value, _: number(value))
    )


def _alike(ends: list[float]) -> bool:
    """Whether there is no range, but for rounding."""
    largest = max(map(abs, ends), default=0.0)
    return largest < ROUNDING or max(ends) - min(ends) < FLAT * largest


def _legend(best: dict[str, Best]) -> list[Line2D]:
    enough = any(each.seeds >= statistics.FEWEST_SEEDS for each in best.values())
    handles: list[Line2D] = []
    if any(each.leaders for each in best.values()):
        handles.append(Line2D([], [], color=BEST, marker="*", ms=11, ls="", label="best mean of the column"))
    level = "not clearly worse" if enough else "another remedy"
    if any(QUALITIES[name].tested for name in best):
        handles.append(Line2D([], [], color=style.INK, marker="o", ms=5.5, ls="", label=level))
    if enough and any(each.behind for each in best.values()):
        handles.append(Line2D([], [], color=FAINT, marker="o", mfc="white", ms=5.5, ls="", label="clearly worse"))
    if not all(QUALITIES[name].tested for name in best):
        handles.append(Line2D([], [], color=UNTESTED, marker="o", ms=5.5, ls="", label="not tested"))
    return handles
