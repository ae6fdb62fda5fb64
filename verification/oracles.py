"""A case against every oracle that applies, as rows of the table ``verification``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import rnn_core as rc
from rnn_core.experiment import Evaluation
from rnn_core.oracles import autograd, stack, torch_modules
from rnn_core.oracles.compare import Abstains, Error
from rnn_core.scaling import plain
from verification import differences
from verification.cases import Case, Network, network_of
from verification.differences import against_central_differences
from verification.segments import against_complex_step

Row = dict[str, Any]
Oracle = Callable[[Network, Evaluation], Error]

TOLERANCE = 1e-10  # of a step or a parameter, atol = 0; two sound programs differ by some 1e-13


def rows_of(case: Case, device: str) -> list[Row]:
    """One row an oracle."""
    network = network_of(case, device)
    problem = network.problem
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # what is not finite is an abstention, and said
        evaluation = rc.evaluate(problem, problem.params, network.x, network.target)
        return [_row(case, network, name, oracle, evaluation) for name, oracle in _oracles(network)]


def _oracles(network: Network) -> Iterator[tuple[str, Oracle]]:
    """Those that apply, by name."""
    yield "torch.autograd", against_autograd
    module = torch_modules.module_of(network.problem)
    if module is not None:
        yield module, against_module
    yield "complex step", against_complex_step
    short = network.problem.experiment.sequence_length <= differences.LONGEST
    if network.problem.layers > 1 and short:
        yield "torch.autograd, unrolled", against_unrolled_autograd
    if short:
        yield "central differences", against_central_differences


def _row(case: Case, network: Network, name: str, oracle: Oracle, evaluation: Evaluation) -> Row:
    tolerance = differences.TOLERANCE if oracle is against_central_differences else TOLERANCE
    error: float | None
    try:
        error, where = oracle(network, evaluation)
    except Abstains as reason:
        error, where = None, str(reason)
    return {
        "cell": case.cell,
        "activation": case.activation,
        "layers": case.layers,
        "regime": case.regime,
        "sequence_length": case.sequence_length,
        "loss_at": case.loss_at,
        "device": network.problem.device,
        "oracle": name,
        "growth_rate": network.growth_rate,
        "relative_error": error,
        "where": where,
        "tolerance": tolerance,
        "passed": None if error is None else error <= tolerance,
    }


def against_autograd(network: Network, evaluation: Evaluation) -> Error:
    """torch.autograd over the oracles' equations, step by step."""
    problem = network.problem
    return autograd.check(problem, problem.params, network.x, network.target, evaluation)


def against_module(network: Network, evaluation: Evaluation) -> Error:
    """The kernels of torch.nn."""
    direct = evaluation.grad_hidden(0, network.x.shape[0])
    return torch_modules.check(network.problem, network.x, plain(direct), TOLERANCE)


def against_unrolled_autograd(network: Network, evaluation: Evaluation) -> Error:
    """torch.autograd of the whole stack at once."""
    return stack.check(network.problem, network.x, network.target, evaluation)
