"""A stack against torch.autograd over all its layers and steps at once: a plain program, unrolled, in plain floats.

It takes nothing from the engine but parameters and inputs. So what one layer sends to the one below it is found here by itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rnn_core.arrays import to_numpy
from rnn_core.experiment import Evaluation
from rnn_core.oracles import autograd, tensors
from rnn_core.oracles.compare import Abstains, Error, relative_error, worst, worst_step
from rnn_core.oracles.problems import params_of
from rnn_core.oracles.tensors import as_tensor
from verification.cases import Network

SMALLEST = 1e-280  # a gradient below it has lost digits in plain floats


def against_unrolled_autograd(network: Network, evaluation: Evaluation) -> Error:
    """The worst error of the states, dL/dx and the totals of every step of every layer, and of every parameter.

    Raises:
        Abstains: plain floats do not hold a state or a gradient.
    """
    program = _Program(network)
    found = [(each, layer, name) for layer, by_name in enumerate(program.gradients) for name, each in by_name.items()]
    for each, _, _ in found:
        sizes = each.flatten(1).abs().amax(dim=1)
        if not sizes.isfinite().all() or ((sizes > 0.0) & (sizes < SMALLEST)).any():
            raise Abstains("plain floats do not hold a gradient")
    errors = [Error(_relative(evaluation.loss, program.loss), "loss")]
    for each, layer, name in found:
        tape, gradients = evaluation.layers[layer]
        ours = gradients.x if name == "x" else gradients.parts[name]
        errors.append(_in_layer(worst_step(name, ours, each), layer))
        if name != "x":
            errors.append(_in_layer(worst_step(f"state {name}", tape.states(name), program.states[layer][name]), layer))
    errors += [Error(relative_error(evaluation.param_grads[name], each), name) for name, each in program.params.items()]
    return worst(errors)


def _in_layer(error: Error, layer: int) -> Error:
    return Error(error.relative, f"{error.where}, layer {layer + 1}")


def _relative(ours: float, reference: float) -> float:
    return abs(ours - reference) / abs(reference) if reference else 0.0 if ours == 0.0 else math.inf


class _Program:
    """The unrolled network and its derivatives.

    Attributes:
        loss: the mean loss.
        states: by layer and name, (T, B, H).
        gradients: by layer, dL/d(part) by its name and dL/dx as ``x``, each (T, B, …).
        params: dL/dparameter by its name.
    """

    def __init__(self, network: Network) -> None:
        problem = network.problem
        p = {name: as_tensor(value).clone().requires_grad_() for name, value in problem.params.items()}
        step, B = autograd.step_of(problem), network.x.shape[1]
        inputs = [x_t.clone().requires_grad_() for x_t in as_tensor(network.x)]
        wanted: list[list[tuple[str, list[Tensor]]]] = []
        self.states: list[dict[str, Tensor]] = []
        with torch.enable_grad():
            for layer in range(problem.layers):
                own = params_of(problem, p, layer)
                blank = torch.zeros(B, problem.experiment.hidden_size, dtype=inputs[0].dtype, device=inputs[0].device)
                states = [dict.fromkeys(problem.cell.state_names, blank)]
                for x_t in inputs:
                    states.append(step(own, x_t, states[-1]))
                parts = {name: [state[name] for state in states[1:]] for name in states[0]}
                wanted.append([("x", inputs), *parts.items()])
                self.states.append({name: torch.stack(each).detach() for name, each in parts.items()})
                inputs = [h.view_as(h) for h in parts["hidden"]]  # h_t as the layer above sees it
            hidden = torch.stack(inputs if problem.task.outputs_at == "every" else inputs[-1:])
            goal = torch.as_tensor(to_numpy(network.target), device=hidden.device)
            goal = goal if problem.task.outputs_at == "every" else goal[None]
            y = hidden @ p["weight_ho"].T + p["bias_ho"]
            loss = tensors.mean_loss(problem.task.loss, y, goal)
        if not loss.isfinite():
            raise Abstains("plain floats do not hold the loss")
        flat = [tensor for of_layer in wanted for _, each in of_layer for tensor in each]
        derivatives = iter(torch.autograd.grad(loss, [*flat, *p.values()], allow_unused=True, materialize_grads=True))
        self.loss = float(loss.detach())
        self.gradients = [
            {name: torch.stack([next(derivatives) for _ in each]) for name, each in of_layer} for of_layer in wanted
        ]
        self.params = {name: next(derivatives) for name in p}
