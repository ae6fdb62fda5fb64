"""What the oracles take from a problem, and what it must be like for a check of it to see every mistake."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from rnn_core.arrays import Params, like
from rnn_core.experiment import Problem
from rnn_core.oracles.equations import CELLS


def options_of(problem: Problem) -> dict[str, float]:
    """The cell's numbers that the settings give, by name."""
    e = problem.experiment
    numbers = {name: getattr(e, f"{e.cell}_{name}") for name in CELLS[e.cell].options}
    return {name: value for name, value in numbers.items() if value is not None}


def recurrences(problem: Problem) -> list[tuple[int, int]]:
    """(layer, direction) of every cell of the network, each counted from 0, in the order of ``Evaluation.layers``."""
    return list(itertools.product(range(problem.layers), range(2 if problem.experiment.bidirectional else 1)))


def named_in(name: str, layer: int, direction: int = 0) -> str:
    """A parameter's name in a layer, the first counted as 0; once more, so that a mistake in the engine's names is seen."""
    return "".join([name, f"_l{layer}" if layer else "", "_reverse" if direction else ""])


def params_of(problem: Problem, params: Params, layer: int, direction: int = 0) -> Params:
    """The parameters of one direction of a layer by their plain names, without the readout's."""
    plain = (
        "weight_ih",
        "weight_hh",
        "bias_ih",
        "bias_hh",
        *problem.cell.own_parameters,
    )  # in order: of equal errors the first is named
    return {name: params[own] for name in plain if (own := named_in(name, layer, direction)) in params}


def with_biases(problem: Problem) -> Problem:
    """The problem with biases that are not zero, and gains that are not 1: where they are, a mistake in them goes unseen."""
    rng = np.random.default_rng(0)
    changed = {
        name: like(0.1 * rng.standard_normal(tuple(value.shape)), value)
        for name, value in problem.params.items()
        if name.startswith("bias")
    }
    own = [named_in(name, *each) for each in recurrences(problem) for name in problem.cell.own_parameters]
    for name in own:
        if name not in changed:
            value = problem.params[name]
            changed[name] = value + like(0.1 * rng.standard_normal(tuple(value.shape)), value)
    return replace(problem, params={**problem.params, **changed})
