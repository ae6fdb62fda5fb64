"""What clipping does to the gradient through training: its global norm before and after, rule by rule."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from study.report import drawing, facets, layout, measures, reader, style
from study.report.chosen import with_wanted
from study.report.findings import Study
from study.report.phrases import count_of
from study.report.words import (
    LONGEST_TITLE,
    OF_ALL,
    addresses,
    capital,
    few,
    kind_of,
    listed,
    marked,
    marked_count,
    name_of,
    named,
    ordered,
    percent,
    plain,
    power,
    threshold,
)

NOTHING = drawing.Nothing(
    "No run of this study trains, so no gradient was clipped.",
    'Add a sweep with updates: 100 or more and clipping: [none, "norm:1.0"].',
)
UNCLIPPED = drawing.Nothing("No run of this study clips its gradient.", NOTHING.add)
BEFORE = "#9a9a9a"
MOST_ROWS, MOST_RULES, MOST_LINES = 3, 6, 10
THRESHOLD: dict[str, Any] = {"lw": 1.4, "ls": (0, (3, 6)), "solid_capstyle": "butt", "dash_capstyle": "butt"}
LETTERS_PER_INCH, BESIDE_PANELS = 13.0, 0.8  # letters above a panel; inches that the labels of the y axis take
CUT = 1e-9  # decades that clipping must take off a norm to count


# ---- what is drawn


def frame(tables: reader.Tables) -> pd.DataFrame:
    """Run × update: log10 of the global gradient norm before and after clipping, of the runs that are drawn.

    Every row repeats what holds for its run over all its updates. ``going`` counts the updates that did not end it, ``clipped`` those
    of them that were clipped. ``highest`` is the highest finite norm before clipping, ``highest_at`` its update. ``broken``: it broke down.
    A run that is not drawn has one row, without update. ``only`` names the parts of the study that clip, where others do not.
    """
    study = tables.study
    runs = facets.trained_panels(study, lambda part: part.axes, most=10**6, every=True)
    if runs.empty or not (runs["clipping"] != "none").any():
        return pd.DataFrame()
    used = runs.groupby("part")["clipping"].transform(lambda rules: (rules != "none").any())
    only = _parts(study, [] if used.all() else sorted(runs.loc[used, "part"].unique()))
    runs = runs[used].drop(columns=["panel", "left_out"]).assign(only=only)
    runs = runs.merge(of_runs(tables, runs["run_key"]), on="run_key", how="left")
    runs = _rows(study, runs)
    drawn = runs.dropna(subset=["panel"])
    rows = reader.updates_of(
        tables, drawn.drop_duplicates("run_key"), ["log10_norm_before", "log10_norm_after", "finite"]
    )
    rows = rows.rename(columns={"log10_norm_before": "before", "log10_norm_after": "after"})
    return pd.concat([drawn.merge(rows, on="run_key"), runs[runs["panel"].isna()]], ignore_index=True)


def _parts(study: Study, places: list[int]) -> str:
    """Sweep rules; digits and adding. Empty where there are none."""
    trained = study.trained_parts
    names = [facets.part_name(trained[i], trained) for i in places]
    names = [f"sweep {name}" if name == trained[i].sweep else name for i, name in zip(places, names, strict=True)]
    return few(names) if names else ""


def of_runs(tables: reader.Tables, keys: pd.Series) -> pd.DataFrame:
    """By run, over all its updates: clipped, going, highest, highest_at; read in pieces, because there may be millions of updates."""
    columns = ["run_key", "update", "log10_norm_before", "log10_norm_after", "finite"]
    pieces = []
    for rows in tables.pieces("updates", columns, ds.field("run_key").isin(keys.unique().tolist())):
        before = rows["log10_norm_before"].where(np.isfinite(rows["log10_norm_before"]))
        going = rows["finite"] & before.notna() & np.isfinite(rows["log10_norm_after"])
        cut = going & (before - rows["log10_norm_after"] > CUT)
        pieces.append(rows[["run_key", "update"]].assign(highest=before, going=going, clipped=cut))
    rows = pd.concat(pieces, ignore_index=True).drop_duplicates(["run_key", "update"])
    peak = rows.dropna(subset=["highest"]).sort_values(["highest", "update"], ascending=[False, True])
    peak = (
        peak.drop_duplicates("run_key")
        .set_index("run_key")[["highest", "update"]]
        .rename(columns={"update": "highest_at"})
    )
    return rows.groupby("run_key")[["clipped", "going"]].sum().join(peak).reset_index()


def _rows(study: Study, runs: pd.DataFrame) -> pd.DataFrame:
    """With ``panel``, the row that a run is drawn in: all settings besides the rule; of many those that differ, and ``some`` says which."""
    trained = study.trained_parts
    groups: list[tuple[str, pd.DataFrame]] = []
    for i, part_runs in runs.groupby("part", sort=True):
        part = trained[int(i)]
        prefix = facets.part_name(part, trained)
        for chosen, rows in measures.grouped(part_runs, [axis for axis in part.axes if axis != "clipping"]):
            name = name_of(chosen) if chosen else ""
            groups.append((": ".join(filter(None, (prefix, name))) or str(part.runs["task"].iloc[0]), rows))
    chosen_groups, some = _choice([rows for _, rows in groups])
    placed = [rows.assign(panel=groups[j][0] if j in chosen_groups else None) for j, (_, rows) in enumerate(groups)]
    data = pd.concat(placed, ignore_index=True)
    names = list(dict.fromkeys(groups[j][0] for j in chosen_groups))
    data["panel"] = pd.Categorical(data["panel"], categories=names, ordered=True)
    return data.assign(some=some)


def _choice(groups: list[pd.DataFrame]) -> tuple[list[int], str]:
    """The settings that are drawn, and a sentence that says which, if not all are."""
    every = list(range(len(groups)))
    if len(groups) <= MOST_ROWS:
        return every, ""
    share = [_share_clipped(rows) for rows in groups]
    broken = [int(rows.drop_duplicates("run_key")["broken"].sum()) for rows in groups]
    first = min(every, key=lambda j: (share[j], broken[j], j))
    last = max((j for j in every if j != first), key=lambda j: (broken[j], share[j], -j))
    low, high = min(share), max(share)
    middle = min((j for j in every if j not in (first, last)), key=lambda j: (abs(share[j] - (low + high) / 2), j))
    text = "The figure has room for three of the settings"
    if low < high or any(broken):
        between = "one has a middle share" if low < share[middle] < high else "one lies between"
        most = "the most runs that broke down" if any(broken) else "the largest share"
        text += f". One has the smallest share of clipped updates, {between}, and one has {most}"
    return [first, middle, last], f"{text}."


def _share_clipped(rows: pd.DataFrame) -> float:
    """The share of updates that were clipped, of the runs that clip at all."""
    clipping = rows[rows["clipping"] != "none"]
    return float(clipping["clipped"].sum() / max(1, clipping["going"].sum()))


def by_rule(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a rule: runs, how many broke down, and the share of updates that were clipped."""
    rules = runs.drop_duplicates("run_key").groupby("clipping")[["clipped", "going"]].sum()
    each = runs.drop_duplicates("run_key").groupby("clipping")["broken"].agg(runs="size", broken="sum")
    rules = rules.join(each)
    return rules.assign(share=rules["clipped"] / rules["going"].where(rules["going"] > 0)).reindex(
        ordered("clipping", rules.index)
    )


# ---- what is said


def facts(data: pd.DataFrame, study: Study) -> drawing.Facts:
    if data.empty:
        return (UNCLIPPED if (study.runs["updates"] > 0).any() else NOTHING).facts()
    rules, runs = by_rule(data), data.drop_duplicates("run_key")
    text, only = title(rules), str(data["only"].iloc[0])
    of_some = capital(f"{only}: {text}")
    text = of_some if only and len(plain(of_some)) <= LONGEST_TITLE else text
    drawn = drawn_rules(data)
    alt = (
        f"Line charts of the decimal logarithm of the global gradient norm against update, before clipping (grey) and after it "
        f"(coloured), in black without clipping. Columns: {listed(named('clipping', rule) for rule in drawn)}. "
        f"Rows: {few(map(str, data['panel'].cat.categories), 5)}. {plain(text)}"
    )
    of_which = f"These are the runs of {only}: nothing else in this study is clipped." if only else ""
    some, left_out = str(data["some"].iloc[0]), _left_out_rules(rules, drawn)
    claims = [
        of_which,
        _shares(rules, text, only),
        _highest(runs),
        some,
        left_out,
        OF_ALL if left_out or some else "",
    ]
    kinds = [kind_of(rule) for rule in rules.index if rule != "none"]
    shown = [
        *dict.fromkeys(kinds),
        *(["threshold"] if "norm" in kinds else []),
        *(["broken"] if data["broken"].any() else []),
        *(["unclipped"] if "none" in drawn else []),
    ]
    shown += ["lines" if one_line_each(data) else "median"]
    shown += ["above"] if _leave_above(data[data["panel"].notna() & data["clipping"].isin(drawn)]) else []
    return drawing.facts(text, alt, claims, shown)


def title(rules: pd.DataFrame) -> str:
    """Who breaks down without clipping and with it; if nobody does, how often each rule clips."""
    clipping = rules.drop("none", errors="ignore")
    names = list(clipping.index)
    if rules["broken"].any() and "none" in rules.index:
        if rules["broken"].sum() == rules["runs"].sum():
            total = marked_count(int(rules["runs"].sum()), "runs_by_rule", clipping=list(rules.index))
            return f"Every one of {total} runs breaks down, with or without clipping."
        verb = "breaks" if rules.loc["none", "broken"] == 1 else "break"
        return f"Without clipping {_broken(rules, ['none'])} runs {verb} down; with it, {_broken(rules, names)}" + (
            f", and {_share(clipping.iloc[0])} of updates are cut."
            if len(names) == 1 and clipping["clipped"].iloc[0]
            else "."
        )
    if rules["broken"].any():
        if rules["runs"].sum() == 1:
            return "Clipping does not keep the one run going: it breaks down."
        return f"Clipping does not keep every run going: {_broken(rules, names)} break down."
    most = clipping.sort_values("share", ascending=False, kind="stable")
    if not most["share"].fillna(0).any():
        return f"No run breaks down, and {'the rule' if len(names) == 1 else 'no rule'} {'never' if len(names) == 1 else 'ever'} clips."
    first, last = most.iloc[0], most.iloc[-1]
    text = f"{first.name} clips {_share(first)} of all updates"
    if len(most) > 1 and plain(_share(first)) == plain(_share(last)):
        text = f"{'Both rules clip' if len(most) == 2 else 'Every rule clips'} {_share(first)} of all updates"
    elif len(most) > 1:
        text += f", {last.name} {_share(last)}"
    return f"{text}; no run breaks down{', with or without clipping' if 'none' in rules.index else ''}."


def _broken(rules: pd.DataFrame, names: list[str]) -> str:
    """3 of 9."""
    where = {"clipping": names[0] if len(names) == 1 else names}
    broken, runs = int(rules.loc[names, "broken"].sum()), int(rules.loc[names, "runs"].sum())
    count = count_of(broken, "runs_broken_by_rule", **where)
    return f"{count} of {marked_count(runs, 'runs_by_rule', **where)}"


def _share(rule: pd.Series) -> str:
    share = float(rule["share"]) if math.isfinite(rule["share"]) else 0.0
    return marked(_percent(share), "clipped_share", share, clipping=str(rule.name))


def _percent(share: float) -> str:
    """58 %; not 0 % of a little, nor 100 % of almost all."""
    return "less than 1 %" if 0 < share < 0.005 else "more than 99 %" if 0.995 <= share < 1 else percent(share)


def _shares(rules: pd.DataFrame, title: str, only: str) -> str:
    """How often each rule clips that the title does not speak of."""
    known = [address["where"].get("clipping") for _, address in addresses(title) if address["kind"] == "clipped_share"]
    clipping = rules.drop(["none", *known], errors="ignore")
    alike = len({plain(_share(rule)) for _, rule in rules.drop("none", errors="ignore").iterrows()}) == 1
    if not rules["broken"].any() and (alike or not known):  # none ever clips, or all as often as the title says
        return ""
    cutting, idle = clipping[clipping["clipped"] > 0], clipping[(clipping["clipped"] == 0) & (clipping["going"] > 0)]
    phrases = [f"{name} clips {_share(row)} of updates" for name, row in cutting.iterrows()]
    phrases += [f"{few(idle.index)} never {'clips' if len(idle) == 1 else 'clip'}"] if len(idle) else []
    return f"Over all {'of these ' if only else ''}runs, {few(phrases, 6)}." if phrases else ""


def _highest(runs: pd.DataFrame) -> str:
    """The highest finite norm of these runs, whether its run went on or ended."""
    known = runs.dropna(subset=["highest"])
    if known.empty:
        return "No gradient has a norm that is finite and not zero."
    top = known.loc[known["highest"].idxmax()]
    size, update = float(top["highest"]), int(top["highest_at"])
    ends = " in a run that broke down" if top["broken"] else ""
    tied = known[known["highest"] == top["highest"]]  # rules share their first gradient
    rule = f" with {named('clipping', top['clipping'])}" if tied["clipping"].nunique() == 1 else ""
    return (
        f"{'Their' if top['only'] else 'The'} highest norm before clipping is {marked(power(size), 'highest_norm', size)}, at update "
        f"{marked_count(update, 'highest_norm_update')}{rule}{ends}."
    )


def _left_out_rules(rules: pd.DataFrame, drawn: list[str]) -> str:
    left_out = [rule for rule in rules.index if rule not in drawn]
    return facets.not_drawn(few(left_out) if left_out else "")


def drawn_rules(data: pd.DataFrame) -> list[str]:
    """At most so many rules, those that the headline is about among them."""
    rules = ordered("clipping", data.loc[data["panel"].notna(), "clipping"])
    told = [rules.index(rule) for rule in _told(by_rule(data)) if rule in rules]
    return [rules[i] for i in with_wanted(facets.spread(range(len(rules)), MOST_RULES), told)]


def _told(rules: pd.DataFrame) -> list[str]:
    """The rules that the headline names, and those with runs that break down, the most first."""
    names = [address["where"].get("clipping") for _, address in addresses(title(rules))]
    broken = rules[rules["broken"] > 0].sort_values("broken", ascending=False, kind="stable")
    return list(dict.fromkeys([*(name for name in names if isinstance(name, str)), *broken.index]))


def one_line_each(data: pd.DataFrame) -> bool:
    """Whether a panel holds so few runs that each has its own line."""
    drawn = data.dropna(subset=["panel"])
    return int(drawn.groupby(["panel", "clipping"], observed=True)["run_key"].nunique().max()) <= MOST_LINES


# ---- how it is drawn


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    single = one_line_each(data)
    rules, panels = drawn_rules(data), list(data["panel"].cat.categories)
    data = data[data["panel"].notna() & data["clipping"].isin(rules)]
    paint, scale, anywhere = style.rule_colours(rules), limits(data), bool(data["broken"].any())
    figure, grid = _axes(len(panels), len(rules))
    for i, panel in enumerate(panels):
        for j, rule in enumerate(rules):
            ax, rows = grid[i][j], data[(data["panel"] == panel) & (data["clipping"] == rule)]
            ax.set_ylim(*scale)
            ax.set_xlim(-0.02 * data["updates"].max(), data["updates"].max())
            ax.xaxis.set_major_locator(layout.whole_numbers())
            if rows.empty:
                ax.text(0.5, 0.5, "no run", transform=ax.transAxes, ha="center", color="#555555")
                continue
            _panel(ax, rows, paint[rule], single)
            ax.set_title(
                _summary(rows, len(rules), anywhere), loc="left", fontsize=9.5, fontweight="normal", color="#333333"
            )
    _name(grid, panels, rules, paint)
    layout.legend_below(figure, _legend(data, paint, single), most=5)
    return figure


def _axes(panels: int, rules: int) -> tuple[Figure, list[list[Axes]]]:
    """Rows by columns; on a phone everything stands below each other, rule by rule."""
    columns = layout.columns(rules)
    count = panels * rules if columns == 1 else panels
    height = 2.25 if layout.on_phone() else 2.3
    figure = Figure(figsize=(layout.width(), count * height + 1.2), layout="constrained")
    axes = figure.subplots(count, columns, sharex=True, sharey=True, squeeze=False)
    if columns == 1:
        return figure, [[axes[i * rules + j][0] for j in range(rules)] for i in range(panels)]
    return figure, [list(row) for row in axes]


def _panel(ax: Axes, rows: pd.DataFrame, colour: str, single: bool) -> None:
    """The norm before, above it that after, above both the threshold, with gaps to see them through; × where a run broke down."""
    limit = threshold(str(rows["clipping"].iloc[0]))
    if kind_of(str(rows["clipping"].iloc[0])) == "norm" and limit:
        ax.axhline(math.log10(limit), color=style.INK, zorder=4, gid="threshold", **THRESHOLD)
    high = ax.get_ylim()[1]
    never = rows["clipping"].iloc[0] == "none"
    for name, paint, width in (("before", BEFORE, 2.2), ("after", colour, 1.1))[: 1 if never else 2]:
        known = rows[np.isfinite(rows[name])]
        paint = colour if never else paint
        if known.empty:
            continue
        how: dict[str, Any] = {"estimator": None, "units": "run_key"} if single else {
            "estimator": "median", "errorbar": ("pi", 100), "err_kws": {"alpha": 0.25, "lw": 0}}  # fmt: skip
        before = len(ax.lines)
        if known.groupby("run_key").size().max() == 1:  # a line of one point would not be seen
            how = how | {"marker": "o", "ms": 6 if name == "before" else 3.5}
        sns.lineplot(
            known, x="update", y=name, color=paint, lw=width if not never else 1.1, alpha=0.85 if single else 1.0, legend=False,
            ax=ax, zorder=2 if name == "before" else 3, **how,
        )  # fmt: skip
        for line in ax.lines[before:]:
            line.set_gid(name)
    over = rows[(rows["before"] > high)].groupby("run_key")["update"].min()
    ended = rows.drop_duplicates("run_key")["first_nonfinite_update"].dropna()
    going = over[~over.index.isin(rows.loc[rows["broken"], "run_key"])]
    mark: dict[str, Any] = {
        "mec": "white",
        "color": colour if not never else style.INK,
        "ls": "",
        "clip_on": False,
        "zorder": 5,
    }
    if len(going):
        ax.plot(
            going,
            [high] * len(going),
            marker="^",
            ms=7,
            gid="above",
            **mark | {"color": style.INK if never else "#666666"},
        )
    if len(ended):
        ax.plot(ended, [high] * len(ended), marker="X", ms=9, gid="ended", **mark)
    ax.set(xlabel="", ylabel="")


def limits(data: pd.DataFrame) -> tuple[float, float]:
    """One scale for all panels: everything finite, except explosions further above the rest than the rest is high."""
    going = data[data["finite"].astype(bool)]  # the update that ends a run may have a norm far beyond floats
    norms = pd.concat([going["before"], going["after"]])
    norms = norms[np.isfinite(norms)]
    lines = [
        math.log10(limit)
        for rule in data["clipping"].unique()
        if kind_of(rule) == "norm" and (limit := threshold(rule))
    ]
    low, bulk, most = (float(norms.quantile(q)) for q in (0.0005, 0.98, 1.0)) if len(norms) else (-1.0, 1.0, 1.0)
    low, bulk = min([low, *lines]), max([bulk, *lines])
    high = min(max(most, bulk), bulk + 0.6 * (bulk - low) + 0.3)
    margin = 0.06 * (high - low) + 0.05
    return low - margin, high + margin


def _leave_above(drawn: pd.DataFrame) -> bool:
    """Whether a run that goes on has a norm above the scale."""
    return bool(((drawn["before"] > limits(drawn)[1]) & ~drawn["broken"].astype(bool)).any())


def _summary(rows: pd.DataFrame, columns: int, anywhere: bool) -> str:
    """clips 58 % of updates; 5 of 18 runs break down. Where no run of the study does (``anywhere``), only the first."""
    runs = rows.drop_duplicates("run_key")
    going, clipped, broken = int(runs["going"].sum()), int(runs["clipped"].sum()), int(runs["broken"].sum())
    words = []
    if rows["clipping"].iloc[0] != "none":
        words.append(f"clips {_percent(clipped / going)} of updates" if clipped else "never clips")
    if broken:
        words.append(f"{broken} of {len(runs)} break{'s' if broken == 1 else ''} down (×)")
    elif anywhere and not words:
        words.append("none breaks down")
    text = ("; " if columns < 3 and not layout.on_phone() else "\n").join(words)
    letters = int((layout.width() - BESIDE_PANELS) / layout.columns(columns) * LETTERS_PER_INCH)
    return "\n".join(line if len(line) <= letters else layout.wrapped(line, letters) for line in text.split("\n"))


def _name(grid: list[list[Axes]], panels: list[str], rules: list[str], paint: dict[str, str]) -> None:
    """Rules above the columns, settings at the left of the rows; where all panels are stacked both above each."""
    stacked = layout.columns(2) == 1
    for panel, row in zip(panels, grid, strict=True):
        for rule, ax in zip(rules, row, strict=True):
            if stacked:
                _name_above(ax, rule, panel if len(panels) > 1 else "", paint[rule])
            elif row is grid[0]:
                titles = [
                    other.get_title(loc="left") for other in row
                ]  # names stand in one line, whatever is under them
                up = 7 + 12 * max(title.count("\n") + bool(title) for title in titles)
                ax.annotate(
                    named("clipping", rule), (0, 1), (0, up), xycoords="axes fraction", textcoords="offset points",
                    fontsize=11, fontweight="bold", color=paint[rule], gid="rule", annotation_clip=False,
                )  # fmt: skip
            if ax is row[0] or stacked:
                words = r"$\log_{10}$ gradient norm"
                several = len(panels) > 1 and not stacked
                ax.set_ylabel(f"{_wrapped(panel)}\n" + r"$\log_{10}$ norm" if several else words)
    for ax in grid[-1][-1:] if stacked else grid[-1]:
        ax.set_xlabel("training update")


def _name_above(ax: Axes, rule: str, panel: str, colour: str) -> None:
    """The rule, its settings below it, and below them what there is to count."""
    counted = ax.get_title(loc="left")
    settings = layout.wrapped(panel, 42)
    words = "\n".join(filter(None, (settings, counted)))
    ax.set_title(named("clipping", rule), loc="left", color=colour)
    if words:
        layout.under_title(ax, words)


def _wrapped(panel: str) -> str:
    """A row's name, the task on a line of its own."""
    return "\n".join(layout.wrapped(line, 24) for line in panel.replace(": ", ":\n").split("\n"))


def _legend(data: pd.DataFrame, paint: dict[str, str], single: bool) -> list[Any]:
    clipping = [rule for rule in paint if rule != "none"]
    after = "after clipping" if len(clipping) == 1 else "after clipping, in the rule's colour"
    handles: list[Any] = [
        Line2D([], [], color=BEFORE, lw=2.4, label="before clipping"),
        Line2D([], [], color=paint[clipping[-1]], lw=1.8, label=after),
    ]
    if (data["clipping"] == "none").any():
        handles.insert(0, Line2D([], [], color=paint["none"], lw=1.8, label="without clipping"))
    if not single:
        handles.append(Patch(color="#777777", alpha=0.3, lw=0, label="lowest to highest run"))
    if any(kind_of(rule) == "norm" for rule in data["clipping"].unique()):
        handles.append(Line2D([], [], color=style.INK, label="threshold", **THRESHOLD | {"ls": (0, (3, 3))}))
    if data["broken"].any():
        handles.append(Line2D([], [], color="#777777", marker="X", ms=8, mec="white", ls="", label="run breaks down"))
    return handles
