"""Where kinds of network turn from shrinking to growing, as the figure of growth rates marks it.

``rows`` are networks of one kind, ``data`` those of several, told apart by panel and hue.
"""

from __future__ import annotations

import math

import pandas as pd

from study.report import measures


def shown(blocks: list[pd.DataFrame]) -> list[str]:
    """Which of these marks there are, in words that the caption asks for."""
    several = (rows for rows in blocks if rows["seed"].nunique() > 1)
    return [
        *(["turning"] if any(map(turns, blocks)) else []),
        *(["ticks"] if any(map(has_ticks, blocks)) else []),
        *(["median turning"] if any(map(turns, several)) else []),
    ]


def turns(data: pd.DataFrame) -> bool:
    return data["x_axis"].iloc[0] in measures.SCALES and any(critical_of(rows) for rows in lines_of(data))


def has_ticks(data: pd.DataFrame) -> bool:
    """Whether some network's own turning point is drawn: of several, also where most of their kind never turn."""
    return data["x_axis"].iloc[0] in measures.SCALES and any(ticks_of(rows) for rows in lines_of(data))


def ticks_of(rows: pd.DataFrame) -> list[float]:
    """Where networks of one kind turn, one by one; of one network alone that is the diamond."""
    if rows["seed"].nunique() == 1:
        return []
    return [each.at for each in measures.crossings(rows).values() if math.isfinite(each.at)]


def lines_of(data: pd.DataFrame) -> list[pd.DataFrame]:
    return [rows for _, rows in data.groupby(["panel", "hue"], observed=True)]


def critical_of(rows: pd.DataFrame) -> measures.Critical | None:
    """Where a kind of network turns; None if less than half of its networks do."""
    critical = measures.critical(rows)
    return critical if critical and math.isfinite(critical.radius.value) else None


def theory_critical_of(rows: pd.DataFrame) -> float | None:
    """Where theory turns, of a kind of network; None if it does not among the radii tried."""
    critical = measures.theory_critical(rows)
    radii = rows[measures.scale_of(rows)]
    return critical.radius.value if critical and radii.min() <= critical.radius.value <= radii.max() else None


def theories_of(data: pd.DataFrame) -> set[str]:
    """By which theories the lines of critical radii are drawn."""
    return {measures.turning_theory(rows) for rows in lines_of(data) if theory_critical_of(rows) is not None}


def theory_turns(data: pd.DataFrame) -> bool:
    scaled = data["x_axis"].iloc[0] in measures.SCALES
    return scaled and any(theory_critical_of(rows) is not None for rows in lines_of(data))
