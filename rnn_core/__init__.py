"""Gradients of recurrent networks by backpropagation through time, derived by hand and exact beyond floating-point range.

Vanishing and exploding gradients leave the range of floating-point numbers. Here they keep all their digits: a gradient of 1e-400
or 1e+30000 comes back as a mantissa and an exponent. Every parameter's gradient is computed, in NumPy or torch.

One run, from its settings to its result:

>>> import rnn_core as rc
>>> result = rc.run(rc.Experiment(activation="tanh", spectral_radius=1.2, sequence_length=100))
>>> result["regime"]
'vanishing'
>>> result.traces["log10_grad_norm"].shape  # log10 of the norm of dL/dh_t, for t = 1 … T
(100,)

The engine alone, on arrays of your own:

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> cell = rc.VanillaCell("tanh")
>>> params = cell.init_params(rng, input_size=8, hidden_size=64, spectral_radius=1.2)
>>> tape = rc.forward(cell, params, rng.standard_normal((50, 4, 8)))  # x is (T, B, D)
>>> grads = rc.backward(tape, rng.standard_normal((50, 4, 64)))       # dL/dh_t of the loss at step t, (T, B, H)
>>> grads.params["weight_hh"].shape, grads.log_norm.shape             # summed over the batch; ln of the norm of dL/dh_t
((64, 64), (50,))

What each name is for:

- A run: ``Experiment`` (its settings), ``run``, ``run_many``, ``Result`` (what it measured).
- The steps of a run: ``prepare`` gives a ``Problem``, ``evaluate`` the loss and gradients of one batch.
- The engine: ``forward`` gives a ``Tape``, ``backward`` gives ``Gradients``. ``Scaled`` is an array beyond floating-point range.
  ``NotKept`` stands for an array that the memory budget had no room for. ``WeightShares`` says which steps write a weight's
  gradient, ``EntryQuantiles`` how large its entries are. ``omega`` is Pascanu's regulariser with its gradient,
  ``flossing_loss`` that of Lyapunov exponents, with a ``Flossing`` for an answer.
- Cells: ``VanillaCell``, ``GRUCell``, ``LSTMCell`` and others; ``CELLS`` has them all, and ``Cell`` is their base.
  ``TorchCell`` is any torch module (x_t, state) -> state of your own.
- A look at your own model: ``probe`` gives a ``Probe``, or an ``InputTrace`` of a model that shows whole sequences alone;
  ``check_derivatives`` finds a wrong backward pass in it.
- Parts: ``activation`` looks up an ``Activation``; ``recurrent_matrix`` draws W_hh; ``spectral_radius`` and ``sigma_max``
  measure it; ``parse_clipping`` reads a ``Clipping`` rule, which returns ``Clipped`` gradients; ``SGD``, ``Momentum``,
  ``Adam`` and ``AdamW`` are optimisers.
- Spectra: ``theory`` has ``lyapunov_spectrum`` and ``log_singular_values``, which say how many directions survive.
- Data: ``Sequences`` of your own; ``tasks`` holds the generated ones and ``tasks.digits()``.
- What there is to choose from: ``ACTIVATIONS``, ``CELLS``, ``GENERATED`` (tasks), ``INITIALIZERS``, ``LOSSES``, ``OPTIMIZERS``.

The equations and their derivation are in ``README.md`` in the folder of this package. Each cell's file has its forward step
directly above its backward step.
"""

from typing import TYPE_CHECKING

from rnn_core import cells, tasks, theory
from rnn_core.activations import ACTIVATIONS, Activation, activation
from rnn_core.bptt import Gradients, NotKept, WeightShares, backward, forward
from rnn_core.cells import *  # noqa: F403 - CELLS, Cell and every cell
from rnn_core.choices import VALUE_ALIASES, nearest
from rnn_core.clipping import Clipped, Clipping, parse_clipping
from rnn_core.experiment import Experiment, Problem, Result, evaluate, prepare, run, run_many
from rnn_core.flossing import Flossing, flossing_loss
from rnn_core.initializers import INITIALIZERS, recurrent_matrix, sigma_max, spectral_radius
from rnn_core.losses import LOSSES
from rnn_core.optimizers import OPTIMIZERS, SGD, Adam, AdamW, Momentum
from rnn_core.probing import InputTrace, Probe, check_derivatives, probe
from rnn_core.quantiles import EntryQuantiles
from rnn_core.regularizers import omega
from rnn_core.scaling import Scaled
from rnn_core.tape import Tape
from rnn_core.tasks import GENERATED, Sequences

__version__ = "0.1.0"

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Adam",
    "AdamW",
    "Clipped",
    "Clipping",
    "EntryQuantiles",
    "Experiment",
    "Flossing",
    "GENERATED",
    "Gradients",
    "INITIALIZERS",
    "InputTrace",
    "LOSSES",
    "Momentum",
    "NotKept",
    "OPTIMIZERS",
    "Probe",
    "Problem",
    "Result",
    "SGD",
    "Scaled",
    "Sequences",
    "Tape",
    "WeightShares",
    "activation",
    "backward",
    "check_derivatives",
    "evaluate",
    "flossing_loss",
    "forward",
    "omega",
    "parse_clipping",
    "prepare",
    "probe",
    "recurrent_matrix",
    "run",
    "run_many",
    "sigma_max",
    "spectral_radius",
    "tasks",
    "theory",
]
__all__ += cells.__all__

if not TYPE_CHECKING:  # a checker knows the names

    def __getattr__(name: str) -> object:
        """Say which public name was probably meant: ``rc.LSTM`` is not there, and ``rc.LSTMCell`` is."""
        of_cells = {alias: cells.CELLS[cell].__name__ for alias, cell in VALUE_ALIASES["cell"].items()}
        of_cells |= {cell: kind.__name__ for cell, kind in cells.CELLS.items()}
        near = None if name.startswith("_") else nearest(name, __all__, of_cells)
        raise AttributeError(f"rnn_core has no {name!r}" + (f"; did you mean rc.{near}?" if near else ""))
