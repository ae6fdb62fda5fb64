"""What a run is: ``Experiment``. Every field describes itself by its ``axis``.

To add a setting: a field here, and its use where a run is prepared or trained. Check, config key, schema, column and label follow
(``axes.py``). What it must not stand beside, ``combinations.py`` says. A template: docs/extending.md.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields

import numpy as np

from rnn_core.activations import ACTIVATIONS
from rnn_core.arrays import DTYPES
from rnn_core.axes import Axis, axis, described_by_axes
from rnn_core.cells import CELLS
from rnn_core.cells.base import NO_MATRIX
from rnn_core.choices import unknown
from rnn_core.clipping import RULES, parse_clipping
from rnn_core.experiment import combinations
from rnn_core.experiment.own_cells import OWN_CELLS, SEPARATOR, options_of
from rnn_core.initializers import INITIALIZERS
from rnn_core.optimizers import OPTIMIZERS
from rnn_core.scalars import as_python

_DRAWN_IN_THE_FILE = "the file draws its own parameters"
_WITH_A_KEEPING_GATE = tuple(name for name, cell in CELLS.items() if cell.keeping_gate or cell.writing_gate)
WITHOUT_MATRIX = tuple(name for name, cell in CELLS.items() if not cell.has_matrix)
OF_MATRIX = ("initializer", "spectral_radius", "weight_scale")  # settings of W_hh, None where there is none


@described_by_axes
@dataclass(frozen=True, repr=False)
class Experiment:
    """The settings of one run. Every field is a config key, a Parquet column and an axis label.

    A NumPy scalar is taken as the Python number that equals it. ``rc.run(experiment)`` makes the run. With a cell of the user's
    own (``own_cells``), settings that only built-in cells have are None.

    Raises:
        ValueError: a value is not allowed. The message names the field, the value, what is allowed and the nearest name.
        TypeError: there is no such field. The message names the nearest one.
    """

    task: str = axis("white_noise", "name", "What the network sees and is asked for", "name", "task")
    # ---- the network and its start
    cell: str = axis("vanilla", "choice", "Recurrent cell", "name", "cell", choices=CELLS)
    activation: str = axis(
        "tanh", "choice", "Activation function phi", "name", "activation",
        choices=ACTIVATIONS, built_in="the file says which functions it uses",
    )  # fmt: skip
    residual_step: float | None = axis(
        None, "number", "eta of a residual cell, h_t = (1 - lambda) h_{t-1} + eta phi(a_t) (default 1)", "1", "residual step η",
        above=0, unset="another cell, or 1", cells=("residual",),
    )  # fmt: skip
    residual_leak: float | None = axis(
        None, "number", "lambda of a residual cell, from 0 to 1 (default 0)", "1", "residual leak λ",
        minimum=0, maximum=1, unset="another cell, or 0", cells=("residual",),
    )  # fmt: skip
    antisymmetric_step: float | None = axis(
        None, "number", "epsilon of an antisymmetric cell, h_t = h_{t-1} + epsilon phi(a_t) (default 0.1)",
        "1", "antisymmetric step ε", above=0, unset="another cell, or 0.1", cells=("antisymmetric",),
    )  # fmt: skip
    antisymmetric_diffusion: float | None = axis(
        None, "number", "gamma of an antisymmetric cell, W_hh - W_hh^T - gamma I (default 0)", "1", "diffusion γ",
        minimum=0, unset="another cell, or 0", cells=("antisymmetric",),
    )  # fmt: skip
    layer_norm_step: float | None = axis(
        None, "number", "eta of a cell with layer normalisation, h_t = (1 - lambda) h_{t-1} + eta phi(z_t) (default 1)",
        "1", "normalised step η", above=0, unset="another cell, or 1", cells=("layer_norm",),
    )  # fmt: skip
    layer_norm_leak: float | None = axis(
        None, "number", "lambda of a cell with layer normalisation, from 0 to 1 (default 1: the vanilla network; 0: the residual one)",
        "1", "normalised leak λ", minimum=0, maximum=1, unset="another cell, or 1", cells=("layer_norm",),
    )  # fmt: skip
    cell_options: str | None = axis(
        None, "name", "Options of a cell of the user's own that the study varies, as state_size=16", "name", "cell options",
        unset="the cell has no options that vary",
    )  # fmt: skip
    initializer: str = axis(
        "gaussian", "choice", "Recurrent matrix W_hh before it is rescaled; a pascanu one has a size of its own, kept by spectral_radius: null",
        "name", "initialiser", choices=INITIALIZERS, built_in=_DRAWN_IN_THE_FILE,
    )  # fmt: skip
    spectral_radius: float | None = axis(
        1.0, "number", "rho: largest modulus of an eigenvalue of W_hh at the start", "1", "spectral radius ρ",
        above=0, unset="weight_scale scales W_hh, or it stays as drawn, see measured_spectral_radius", checked="ends",
        built_in="there is no W_hh that the study could scale",
    )  # fmt: skip
    weight_scale: float | None = axis(
        None, "number", "sigma_w in the place of rho: entries of W_hh have standard deviation sigma_w/√H as drawn, and nothing is rescaled",
        "1", "weight scale σ_w",
        above=0, unset="spectral_radius scales W_hh, or nothing does", checked="ends",
        built_in="there is no W_hh that the study could scale",
    )  # fmt: skip
    forget_bias: float | None = axis(
        None, "number", "Bias at the start, b_ih + b_hh, of the gate that keeps the state: f of an LSTM, z of a GRU, 1 − z of a minGRU (default 0)",
        "1", "forget bias b", unset="another cell, or 0", checked="ends", cells=_WITH_A_KEEPING_GATE,
    )  # fmt: skip
    chrono: int | None = axis(
        None, "integer", "T_max of chrono biases at the start: ln U(1, T_max − 1) in the gate that keeps the state, its negative in one that writes alone",
        "steps", "chrono T_max", minimum=3, unset="another cell, or other biases", checked="ends", cells=_WITH_A_KEEPING_GATE,
    )  # fmt: skip
    flossing: int = axis(
        0, "integer", "Updates before training that bring Lyapunov exponents to zero, of all parameters but the readout's (gradient flossing)",
        "updates", "flossing", minimum=0, checked="ends", built_in="its second derivatives are not known", later=True,
    )  # fmt: skip
    flossing_exponents: int | None = axis(
        None, "integer", "k: how many exponents are flossed, the first ones (default: all H)", "exponents", "flossed exponents k",
        minimum=1, unset="all H, or nothing is flossed", checked="ends", built_in="its second derivatives are not known",
        later=True,
    )  # fmt: skip
    hidden_size: int = axis(
        64, "integer", "H: number of hidden units", "units", "hidden size H",
        minimum=1, checked="ends",
    )  # fmt: skip
    layers: int = axis(
        1, "integer", "L: layers of the cell, each of which reads the states of the one below; the readout reads the last one's",
        "layers", "number of layers L",
        minimum=1, maximum=64, checked="ends", built_in="a stack is made of built-in cells", later=True,
    )  # fmt: skip
    bidirectional: bool = axis(
        False, "flag", "Whether every layer has a second cell that reads its inputs from the last step to the first; states of both directions go on side by side",
        "true/false", "bidirectional", built_in="a stack is made of built-in cells", later=True,
    )  # fmt: skip
    # ---- its sequences, and where they carry a loss
    input_size: int | None = axis(
        None, "integer", "D: inputs per step of a generated task (default: the task's own)", "inputs", "input size D",
        minimum=1, unset="the task decides, see task_input_size", checked="ends",
    )  # fmt: skip
    input_scale: float = axis(
        1.0, "number", "Standard deviation that inputs of rms 1 give the preactivations; inputs of another rms give this times their own rms",
        "1", "input scale", above=0, checked="ends", built_in=_DRAWN_IN_THE_FILE,
    )  # fmt: skip
    input_correlation: float = axis(
        0.0, "number", "r: correlation of neighbouring inputs of white_noise, x_t = r x_{t-1} + sqrt(1 - r^2) noise; 0: white",
        "1", "input correlation r", minimum=0, below=1, checked="first",
    )  # fmt: skip
    sequence_length: int = axis(
        100, "integer", "T: number of time steps", "steps", "sequence length T",
        minimum=1, checked="ends",
    )  # fmt: skip
    batch_size: int = axis(
        16, "integer", "B: sequences per batch", "sequences", "batch size B",
        minimum=1, checked="ends",
    )  # fmt: skip
    loss_at: str | None = axis(
        None, "choice", "Steps that carry a loss: last or every (default: the task's own)", "name", "loss at",
        choices=("last", "every"), unset="the task decides, see task_loss_at",
    )  # fmt: skip
    # ---- training
    truncation: int | None = axis(
        None, "integer", "Window of truncated backpropagation: training drops the backward signal every so many steps (default: never)",
        "steps", "truncation window", minimum=1, unset="the full gradient is used", training=True, checked="first",
    )  # fmt: skip
    clipping: str = axis(
        "none", "rule", "Gradient clipping: none, or RULE:THRESHOLD", "rule", "clipping",
        choices=RULES, training=True, checked="first",
    )  # fmt: skip
    omega: float = axis(
        0.0, "number", "alpha of Ω: trains with ∂L/∂W_hh plus alpha times the immediate ∂Ω/∂W_hh, which asks every step to keep the gradient's length",
        "1", "Ω weight", minimum=0, training=True, checked="first", built_in="Ω needs one W_hh",
    )  # fmt: skip
    optimizer: str = axis(
        "sgd", "choice", "Optimiser", "name", "optimiser",
        choices=OPTIMIZERS, training=True, checked="first",
    )  # fmt: skip
    learning_rate: float = axis(
        0.1, "number", "Step size of the optimiser", "1", "learning rate",
        above=0, training=True, checked="first",
    )  # fmt: skip
    weight_decay: float = axis(
        0.0, "number", "lambda of weight decay, for all parameters: with adamw apart from the gradient, else as an L2 penalty",
        "1", "weight decay", minimum=0, training=True, checked="first",
    )  # fmt: skip
    updates: int = axis(
        0, "integer", "Training updates; 0 measures gradients at the start and trains nothing", "updates", "updates",
        minimum=0, training=True, checked="first",
    )  # fmt: skip
    trace_every: int = axis(
        25, "integer", "Updates between two recorded gradient-norm traces", "updates", "trace every",
        minimum=1, training=True, checked="first",
    )  # fmt: skip
    record_every: int = axis(
        1, "integer", "Updates between two rows of the table updates; the last update has a row, too", "updates", "record every",
        minimum=1, training=True, checked="first",
    )  # fmt: skip
    held_out_sequences: int | None = axis(
        None, "integer", "Sequences of a generated task that no update sees (default: 256)", "sequences", "held-out sequences",
        minimum=1, unset="the task decides", training=True, checked="first",
    )  # fmt: skip
    validate_every: int | None = axis(
        None, "integer", "Updates between two looks at the held-out sequences (default: only at the end)",
        "updates", "validate every", minimum=1, unset="only at the end", training=True, checked="first",
    )  # fmt: skip
    success_below: float | None = axis(
        None, "number", "Success: a smaller fraction of the held-out sequences is answered wrongly. Training ends there",
        "fraction", "success below", above=0, below=1, unset="training runs through its updates", training=True, checked="first",
    )  # fmt: skip
    # ---- numbers
    dtype: str = axis("float64", "choice", "Floating-point type of the run", "name", "dtype", choices=DTYPES)
    seed: int = axis(0, "integer", "Seed of the run's random streams", "1", "seed", minimum=0, checked="first")

    def __post_init__(self) -> None:
        values = self.__dict__  # a frozen object sets its own fields here
        own = self._is_of_own_cell()
        for name, described, default in _FIELDS:
            if own and described.built_in:
                self._leave_unset(name, default, f"your own cell {self.cell!r}: {described.built_in}")
            elif name in OF_MATRIX and self.cell in WITHOUT_MATRIX:
                self._leave_unset(name, default, f"cell {self.cell!r}; {NO_MATRIX}")
            elif values[name] is not default and not (own and name == "cell"):  # a test has checked the defaults
                described.check(name, values[name])
                values[name] = as_python(values[name])
        clipping = parse_clipping(self.clipping)
        values["clipping"] = str(clipping)  # norm:1 and norm:1.0 are one run
        combinations.check(self)
        if self.weight_scale is not None:
            values["spectral_radius"] = None  # whether it was left out or not
        self._check_range(clipping.threshold)

    def _is_of_own_cell(self) -> bool:
        """Whether the cell is the user's own; then its variant stands in ``cell_options``, and exists."""
        values, given = self.__dict__, self.cell
        if isinstance(given, str) and given not in CELLS:
            name, _, variant = given.partition(SEPARATOR)
            if name not in OWN_CELLS:
                raise ValueError(unknown("cell", given, [*CELLS, *OWN_CELLS]))
            if variant and self.cell_options not in (None, variant):
                raise ValueError(
                    f"cell_options: {self.cell_options!r} is not allowed with cell {given!r}, which names others"
                )
            values["cell"], values["cell_options"] = name, variant or self.cell_options
            options_of(name, self.cell_options)
            return True
        if self.cell_options is not None:
            raise ValueError(
                f"cell_options: {self.cell_options!r} is not allowed with cell {given!r}; only a cell of your own has them"
            )
        return False

    @property
    def several_recurrences(self) -> str:
        """The setting by which the network has more than one recurrence; empty where it has one."""
        if (self.layers or 1) > 1:
            return f"layers: {self.layers}"
        return "bidirectional: True" if self.bidirectional else ""

    def _leave_unset(self, name: str, default: object, cell: str) -> None:
        """A setting that only other cells have must not be given, and is None. ``cell`` says whose it is not, and why."""
        if self.__dict__[name] not in (None, default):
            raise ValueError(f"{name}: {self.__dict__[name]!r} is not allowed with {cell}")
        self.__dict__[name] = None

    def _check_range(self, threshold: float | None) -> None:
        """Every number that enters the arithmetic must be a normal number of ``dtype``, or 0."""
        smallest, largest = RANGES[self.dtype]
        numbers = [(name, self.__dict__[name]) for name in _NUMBERS]
        for name, number in [*numbers, ("clipping", threshold)]:
            if number and not smallest <= abs(number) <= largest:
                raise ValueError(
                    f"{name}: {self.__dict__[name]!r} is not allowed with dtype {self.dtype!r}; "
                    f"its numbers go from {smallest:.3g} to {largest:.3g}"
                )

    def __repr__(self) -> str:
        """What makes it again: the fields that differ from their defaults."""
        values, own = self.__dict__, self.cell in OWN_CELLS
        without = OF_MATRIX if self.cell in WITHOUT_MATRIX else ()
        given = [
            f"{name}={values[name]!r}"
            for name, described, default in _FIELDS
            if values[name] != default and not (own and described.built_in) and name not in without
        ]
        return f"Experiment({', '.join(given)})"

    @property
    def key(self) -> str:
        """The run key: 16 hexadecimal digits of the SHA-256 of all fields, and of the source of a user's own cell. Equal experiments have equal keys."""
        return self.key_with(None)

    def key_with(self, data_digest: str | None) -> str:
        """``key`` of a run on given sequences: the digits also depend on ``digest`` of its ``Sequences``.

        Without a digest, None or empty, it is ``key``.
        """
        canonical = {
            k: float(v) if isinstance(v, float | int) and k in _NUMBERS else v for k, v in asdict(self).items()
        }
        for name, default in _LATER.items():
            if canonical[name] in (None, default):
                del canonical[name]
        del canonical["cell_options"]  # all options of a cell are below, whether they vary in this study or not
        if own := OWN_CELLS.get(self.cell):
            canonical["own_cell"] = {"source": own.digest, "options": options_of(self.cell, self.cell_options)}
        if data_digest:
            canonical["data"] = data_digest
        return hashlib.sha256(json.dumps(canonical, sort_keys=True, default=repr).encode()).hexdigest()[:16]


def axes() -> dict[str, Axis]:
    """Every field of ``Experiment`` with its description, in order."""
    return {name: described for name, described, _ in _FIELDS}


# Looked up once: a study makes an Experiment of each of its runs.
_FIELDS = tuple((f.name, f.metadata["axis"], f.default) for f in fields(Experiment))
_NUMBERS = tuple(sorted(name for name, described, _ in _FIELDS if described.kind == "number"))
_LATER = {name: default for name, described, default in _FIELDS if described.later}

# The smallest normal and the largest number of each floating-point type.
RANGES = {name: (float(np.finfo(name).smallest_normal), float(np.finfo(name).max)) for name in DTYPES}
