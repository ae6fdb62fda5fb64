"""rnn_core: hand-derived backpropagation through time, exact beyond floating-point range. The derivation is in rnn_core/README.md."""

from rnn_core import cells, tasks
from rnn_core.activations import ACTIVATIONS, Activation, activation
from rnn_core.bptt import Gradients, NotKept, backward, forward
from rnn_core.cells import *  # noqa: F403 - CELLS, Cell and every cell
from rnn_core.clipping import Clipped, Clipping, parse_clipping
from rnn_core.experiment import Experiment, Problem, Result, evaluate, prepare, run, run_many
from rnn_core.initializers import INITIALIZERS, recurrent_matrix, sigma_max, spectral_radius
from rnn_core.losses import LOSSES
from rnn_core.optimizers import OPTIMIZERS, SGD, Adam, Momentum
from rnn_core.scaling import Scaled
from rnn_core.tape import Tape
from rnn_core.tasks import GENERATED, Sequences

__version__ = "0.1.0"

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Adam",
    "Clipped",
    "Clipping",
    "Experiment",
    "GENERATED",
    "Gradients",
    "INITIALIZERS",
    "LOSSES",
    "Momentum",
    "NotKept",
    "OPTIMIZERS",
    "Problem",
    "Result",
    "SGD",
    "Scaled",
    "Sequences",
    "Tape",
    "activation",
    "backward",
    "evaluate",
    "forward",
    "parse_clipping",
    "prepare",
    "recurrent_matrix",
    "run",
    "run_many",
    "sigma_max",
    "spectral_radius",
    "tasks",
]
__all__ += cells.__all__
