"""Oracle: torch.autograd over all layers and steps of a stack with one direction at once, a plain program, unrolled, in plain floats.

It takes nothing from the engine but parameters and inputs. So what one layer sends to the one below it is found here by itself. Over
long sequences rounding piles up until two sound programs part, so only short ones are compared.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rnn_core.arrays import Array, to_numpy
from rnn_core.experiment import Evaluation, Problem
from rnn_core.oracles import autograd, rounding, tensors
from rnn_core.oracles.compare import Abstains, Error
from rnn_core.oracles.problems import params_of
from rnn_core.oracles.rounding import Precision, Source
from rnn_core.oracles.scaled import by_step, whole
from rnn_core.oracles.tensors import as_tensor
from rnn_core.scaling import Scaled

SMALLEST = 1e-280  # a gradient below it has lost digits in plain floats


def check(problem: Problem, x: Array, target: Array, evaluation: Evaluation) -> Error:
    """The worst error of the loss, the states, dL/dx and the totals of every step of every layer, and of every parameter, beyond rounding.

    Raises:
        Abstains: plain floats do not hold a state or a gradient.
    """

    def compute(source: Source) -> dict[str, Scaled]:
        return _Program(problem, x, target, source).results()

    precision = Precision.of(as_tensor(x))
    ours = _results_of(evaluation)
    errors = rounding.judged(compute, ours.__getitem__, precision.eps, dict)
    worst_name = max(errors, key=lambda name: float(errors[name].max()))
    by_t = errors[worst_name]
    step = f", t = {int(by_t.argmax()) + 1}" if ", layer" in worst_name else ""
    return Error(float(by_t.max()), worst_name.replace(", layer", f"{step}, layer") if step else worst_name)


def _results_of(evaluation: Evaluation) -> dict[str, Scaled]:
    """What the engine has of everything that is compared, by its name."""
    results = {"loss": whole(torch.tensor(evaluation.loss, dtype=torch.float64))}
    for number, (tape, gradients, *_) in enumerate(evaluation.layers, start=1):
        results[f"x, layer {number}"] = by_step(gradients.x)
        for name in tape.cell.state_names:
            results[f"{name}, layer {number}"] = by_step(gradients.parts[name])
            results[f"state {name}, layer {number}"] = by_step(tape.states(name))
    return results | {name: whole(gradient) for name, gradient in evaluation.param_grads.items()}


class _Program:
    """The unrolled network and its derivatives.

    Attributes:
        loss: the mean loss.
        states: by layer and name, (T, B, H).
        gradients: by layer, dL/d(part) by its name and dL/dx as ``x``, each (T, B, …).
        params: dL/dparameter by its name.
    """

    def __init__(self, problem: Problem, x: Array, target: Array, source: Source) -> None:
        p = {n: rounding.moved(as_tensor(v), source).clone().requires_grad_() for n, v in problem.params.items()}
        step, B = autograd.step_of(problem), x.shape[1]
        inputs = [x_t.clone().requires_grad_() for x_t in rounding.moved(as_tensor(x), source)]
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
            goal = torch.as_tensor(to_numpy(target), device=hidden.device)
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
        sizes = torch.cat(
            [each.flatten(1).abs().amax(dim=1) for of_layer in self.gradients for each in of_layer.values()]
        )
        if not sizes.isfinite().all() or ((sizes > 0.0) & (sizes < SMALLEST)).any():
            raise Abstains("plain floats do not hold a gradient")

    def results(self) -> dict[str, Scaled]:
        """Everything by its name, with a leading index a step where it has steps."""
        results = {"loss": whole(torch.tensor(self.loss, dtype=torch.float64))}
        for number, (states, gradients) in enumerate(zip(self.states, self.gradients, strict=True), start=1):
            results |= {f"{name}, layer {number}": by_step(each) for name, each in gradients.items()}
            results |= {f"state {name}, layer {number}": by_step(each) for name, each in states.items()}
        return results | {name: whole(gradient) for name, gradient in self.params.items()}
