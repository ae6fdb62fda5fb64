"""docs/choices.md: what every name means that a config may give to a setting, from the registries of the engine."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from rnn_core import ACTIVATIONS, GENERATED, INITIALIZERS, OPTIMIZERS, Activation
from rnn_core.clipping import RULES, WHAT_RULES_DO
from rnn_core.compiled import PHI
from rnn_core.tasks import PACKAGED
from study import PROJECT

PAGE = PROJECT / "docs" / "choices.md"

OPENING = """# What a config may choose

Written from the code by `make docs`; do not edit.

[Settings](settings.md) says which names a setting takes. Here is what each name means. [Cells](cells.md) have a page of their own.
"""


def page() -> str:
    """The page's text."""
    sections = [
        section("Tasks", "task", first_lines({**GENERATED, **PACKAGED})),
        section("Activation functions", "activation", {name: _of_activation(phi) for name, phi in ACTIVATIONS.items()}),
        section("Initialisers", "initializer", first_lines(INITIALIZERS)),
        section("Clipping rules", "clipping", {rule: _of_rule(rule) for rule in RULES if rule != "none"}),
        section("Optimisers", "optimizer", first_lines(OPTIMIZERS)),
    ]
    return "\n".join([OPENING, *sections])


def section(title: str, setting: str, meanings: Mapping[str, str]) -> str:
    """A table of names with their meanings."""
    rows = [f"| `{name}` | {meaning} |" for name, meaning in meanings.items()]
    return "\n".join([f"## {title}", "", f"| `{setting}` | meaning |", "|---|---|", *rows, ""])


def first_lines(choices: Mapping[str, Any]) -> dict[str, str]:
    """The first line of what documents each choice, as a cell of a table."""
    lines = {name: (inspect.getdoc(choice) or "").splitlines() for name, choice in choices.items()}
    return {name: (text[0] if text else "").replace("``", "`").replace("|", "\\|") for name, text in lines.items()}


def _of_activation(phi: Activation) -> str:
    slopes = [f"steepest slope γ = {phi.gamma:.6g}"]
    slopes += [_kinks(phi.kinks)] if phi.kinks else []
    slopes += ["bounded"] if phi.bounded else []
    return f"{phi.source}; {', '.join(slopes)}{'' if phi.name in PHI else '; no compiled path'}"


def _of_rule(rule: str) -> str:
    words, formula = WHAT_RULES_DO[rule], first_lines({rule: RULES[rule]})[rule]
    return f"{words[0].upper()}{words[1:]}." + (f" {formula}" if "‖" in formula else "")


def _kinks(points: Sequence[float]) -> str:
    places = " and ".join(f"{point:g}".replace("-", "−") for point in points)
    return f"{'a kink' if len(points) == 1 else 'kinks'} at {places}"
