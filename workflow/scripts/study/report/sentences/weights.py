"""Sentences about which steps write the gradient of the recurrent weights, and which work against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from rnn_core import CELLS
from study.report import measures, statistics
from study.report.phrases import bracketed, count_of, interval_words, where_of
from study.report.words import marked, marked_count, name_of, number, percent, unbracketed

WORTH_SAYING = 0.05  # of all contributions: less than this works against the gradient in passing


@dataclass(frozen=True)
class Kind:
    """The networks of one setting, at the longest sequence of their kind: of ``all_steps``.

    Attributes:
        steps: the fewest steps that make half of the gradient, the median network.
        against: the part of all contributions that works against it, likewise.
        name, where: the setting in words, and as an address.
    """

    steps: statistics.Interval
    against: statistics.Interval
    networks: int
    all_steps: int
    name: str
    where: dict[str, Any]

    @property
    def share(self) -> float:
        """Of the whole sequence."""
        return self.steps.value / self.all_steps

    @property
    def steps_words(self) -> str:
        """5 of 400 steps."""
        T = marked_count(self.all_steps, "task_steps", **self.where)
        return f"{marked(number(self.steps.value), 'weight_steps', self.steps.value, **self.where)} of {T} steps"

    @property
    def spread_words(self) -> str:
        return self._spread(self.steps, "weight_steps", number)

    @property
    def against_words(self) -> str:
        """12 % (9 % to 15 %)."""
        text = marked(percent(self.against.value), "weight_against", self.against.value, **self.where)
        return text + bracketed(self._spread(self.against, "weight_against", percent))

    def _spread(self, interval: statistics.Interval, kind: str, write: Any) -> str:
        words = interval_words(interval, write, kind, **self.where)
        if not words or len({write(end) for end in interval}) == 1:
            return ""  # one network, or all alike
        few = words and self.networks < statistics.FEWEST_SEEDS  # then it reaches from the lowest to the highest
        return f"{words}, all {count_of(self.networks, 'weight_networks', **self.where)} networks" if few else words


def kinds_of(part: measures.Part) -> list[Kind]:
    """Every setting whose runs say which steps write the gradient, that of the fewest first (as a share of the sequence).

    Where lengths are compared, at the longest: of two steps, one always writes half.
    """
    if "weight_grad_steps" not in part.runs:
        return []
    kinds = []
    for chosen, runs in measures.grouped(part.compared, part.axes):
        known = runs[runs["weight_grad_steps"].notna()]
        if len(known):
            steps, against = (
                statistics.median(known[name].to_numpy(dtype=float))
                for name in ("weight_grad_steps", "weight_grad_against")
            )
            settings = {axis: value for axis, value in chosen.items() if axis != "sequence_length"}
            name = name_of({**part.fixed, **settings}) if part.fixed or settings else ""
            T = int(measures.steps(known).max())
            kinds.append(Kind(steps, against, len(known), T, name, where_of(part, chosen)))
    return sorted(kinds, key=lambda kind: kind.share)


def weight_of(runs: pd.DataFrame) -> str:
    """What is written: of a cell of the user's own it is all of its parameters."""
    ours = runs["cell"].isin(list(CELLS))
    return "∂L/∂W_hh" if ours.all() else "the weights' gradient" if ours.any() else "the parameters' gradient"


def weights_sentence(part: measures.Part) -> str:
    """From how many steps half of the gradient comes, and how much works against it, in the median network."""
    kinds = kinds_of(part)
    if not kinds:
        return ""
    several = max(kind.networks for kind in kinds) > 1
    head = f"{'In the median network, half' if several else 'Half'} of {weight_of(part.runs)} comes from"
    low, high = ends_of(kinds)
    text = f"{head} {low.steps_words}{bracketed(*_name(kinds, low))}"
    if high.share > low.share:
        text += f" up to {high.steps_words}{bracketed(*_name(kinds, high))}"
    left_out = (
        "" if part.compared["weight_grad_steps"].notna().all() else " Networks without such a gradient are left out."
    )
    return f"{text}.{_against(kinds)}{left_out}"


def ends_of(kinds: list[Kind]) -> tuple[Kind, Kind]:
    """The settings with the fewest and the most steps, as shares of the sequence."""
    return min(kinds, key=lambda kind: kind.share), max(kinds, key=lambda kind: kind.share)


def _name(kinds: list[Kind], kind: Kind) -> tuple[str, ...]:
    """The setting and its networks' spread; or how many settings share the value, if some do: tanh, ρ = 1.2; 7 of 12 settings."""
    alike = sum(other.share == kind.share for other in kinds)
    if alike == 1:
        return unbracketed(kind.name) if len(kinds) > 1 else "", kind.spread_words
    where = {"sweep": kind.where["sweep"]}
    total = marked_count(len(kinds), "weight_settings", **where)
    count = marked_count(alike, "weight_settings_alike", steps=kind.steps.value, length=kind.all_steps, **where)
    return (f"{count} of {total} settings",)


def _against(kinds: list[Kind]) -> str:
    """How much works against the whole, where that is worth saying."""
    most = max(kinds, key=lambda kind: kind.against.value)
    if most.against.value < WORTH_SAYING:
        return " Less than a twentieth of the contributions work against the whole."
    whose = f", for {most.name}" if most.name and len(kinds) > 1 else ""
    return f" {'At most' if len(kinds) > 1 else 'About'} {most.against_words} of the contributions work against the whole{whose}."
