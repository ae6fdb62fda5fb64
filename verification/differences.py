"""A case against central differences: two values of the loss a number, by the engine's own forward pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import rnn_core as rc
from rnn_core.arrays import like, to_numpy
from rnn_core.experiment import Evaluation, loss_of
from rnn_core.oracles.central_differences import best_step, central_difference
from rnn_core.oracles.compare import Abstains, Error, relative_error, worst
from rnn_core.scaling import plain
from verification.cases import Network

# A difference with step s has the error s²/6 · L'''/L' + eps/s · L/L'. At s = eps^(1/3) both terms are eps^(2/3) = 4e-11 times a
# ratio, and the ratios reach 1e3 where a gradient is small beside the loss or strongly curved.
TOLERANCE = 1e-6
KNOWN_TO = 0.25  # of the tolerance: how well a difference must know itself before it may judge
LONGEST = 7  # steps: every entry of every parameter takes four passes, and over many steps L''' outgrows L'


def against_central_differences(network: Network, evaluation: Evaluation) -> Error:
    """The worst error of all parameter gradients and of dL/dx_t; with half the step again, to know the differences' own.

    Raises:
        Abstains: a step reaches over a kink of the activation, or the differences with two steps part.
    """
    sides = _sides([layer.tape for layer in evaluation.layers])
    errors: list[Error] = []
    for name, value in {**network.problem.params, "x": network.x}.items():
        point = to_numpy(value)
        loss = _loss_along(network, name, sides)
        step = best_step(point.dtype) * max(1.0, float(np.abs(point).max()))
        coarse, fine = central_difference(loss, point, step), central_difference(loss, point, step / 2)
        ours = to_numpy(plain(evaluation.layers[0].gradients.x if name == "x" else evaluation.param_grads[name]))
        pieces = [(f"x, t = {t + 1}", t) for t in range(len(point))] if name == "x" else [(name, slice(None))]
        for where, piece in pieces:
            if not relative_error(coarse[piece], fine[piece]) <= KNOWN_TO * TOLERANCE:
                raise Abstains("the differences with steps s and s/2 part by more than a quarter of the tolerance")
            errors.append(Error(relative_error(ours[piece], fine[piece]), where))
    return worst(errors)


def _loss_along(network: Network, name: str, sides: list[np.ndarray]) -> Callable[[np.ndarray], float]:
    """The loss as a function of one parameter, or of x."""

    def loss(value: np.ndarray) -> float:
        x, params = network.x, network.problem.params
        if name == "x":
            x = like(value, x)
        else:
            params = {**params, name: like(value, params[name])}
        result, _, tapes, *_ = loss_of(network.problem, params, x, network.target)
        # Without a kink there is nothing to step over, and what every step acts on need not be worked out.
        if sides and any((a != b).any() for a, b in zip(sides, _sides(tapes), strict=True)):
            raise Abstains("the step reaches over a kink of the activation")
        return result

    return loss


def _sides(tapes: list[rc.Tape]) -> list[np.ndarray]:
    """On which side of every kink each number lies that a nonlinearity acts on."""
    pairs = [pair for tape in tapes for saved in tape.saved for pair in tape.cell.nonlinearities(saved)]
    return [np.sign(to_numpy(a) - kink) for phi, a in pairs for kink in phi.kinks]
