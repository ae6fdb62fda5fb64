"""What the columns of every table are: name, type, unit and meaning.

The columns of a run are not listed here. Its settings follow from ``Experiment``. What it measures follows from the columns that
the engine declares (``rnn_core.experiment.COLUMNS``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa

from rnn_core import formats
from rnn_core.columns import NO_MATRIX, OWN_CELL
from rnn_core.experiment import COLUMNS, OF_MATRIX, SPECTRA, SPECTRUM
from study.plan import values_of
from study.settings import described_axes
from study.wide import SETTING, sampled_settings


@dataclass(frozen=True)
class Column:
    """One column. ``null`` says when it is null; empty if it never is. ``asked``: what a config must ask for; else it is null."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    null: str = ""
    asked: str = ""


_INT, _FLOAT, _BOOL, _TEXT = pa.int32(), pa.float64(), pa.bool_(), pa.string()

_SWEEP = Column("sweep", _TEXT, "name", "Sweep of the config that the run belongs to")
_KEY = Column(
    "run_key", _TEXT, "hex", "Run: digest of all its settings, the seed included, and of the sequences that it read"
)

FORMATS = tuple(format.name for format in formats.FORMATS)  # whose losses are recorded beside the exact gradient
_TYPES = {"integer": _INT, "number": _FLOAT, "flag": _BOOL, "name": _TEXT}


def _measured(declared: Iterable[Any]) -> tuple[Column, ...]:
    """What a run measures, as the engine declares it."""
    return tuple(Column(c.name, _TYPES[c.kind], c.unit, c.meaning, c.null, c.asked) for c in declared)


def _settings() -> tuple[Column, ...]:
    """One column for each setting of a run."""
    return tuple(
        Column(
            name,
            _TYPES.get(axis["kind"], _TEXT),
            axis["unit"],
            axis["meaning"],
            "; ".join(
                [
                    *([f"not set: {axis['unset']}"] if axis["unset"] else []),
                    *([NO_MATRIX if name in OF_MATRIX else OWN_CELL] if axis["built_in"] else []),
                ]
            ),
        )
        for name, axis in described_axes().items()
    )


_TRACES, _UPDATES, _SPECTRA = _measured(COLUMNS["traces"]), _measured(COLUMNS["updates"]), _measured(SPECTRUM)
_LAYERS = _measured(COLUMNS["layers"])
_MEASURED = (
    *_measured(COLUMNS["runs"]),
    *_measured(SPECTRA),
    Column(
        "dynamic_rate",
        _FLOAT,
        "ln per step",
        "Dynamic mean field of the run's setting, from the table theory; for residual, GRU and LSTM cells",
        null="a vanilla cell, an initialiser other than gaussian, inputs that are not white, a state that does not settle;"
        " or a study of more than 100 such settings",
    ),
    Column(
        "verified_error",
        _FLOAT,
        "relative",
        "Worst relative error against PyTorch autograd",
        null="not in the sample that was verified, or not finite (PyTorch agreed)",
    ),
    Column("data", _TEXT, "hex", "Digest of the sequences that the run read", null="a generated task"),
    Column("device", _TEXT, "name", "Device that the run was made on"),
    Column("engine", _TEXT, "hex", "Digest of the sources of rnn_core that made the run"),
)

# What every comparison with an oracle says of itself, in a study (checks) or in ``make verify`` (verification).
_ORACLE = Column("oracle", _TEXT, "name", "Independent program that the engine was compared with")
_NETWORK = (
    Column("cell", _TEXT, "name", "Recurrent cell"),
    Column("activation", _TEXT, "name", "Activation function", null=OWN_CELL),
)
_LENGTH = Column("sequence_length", _INT, "steps", "Sequence length T")
_DEVICE = Column("device", _TEXT, "name", "Device")
_TOLERANCE = Column("tolerance", _FLOAT, "relative", "Largest error that passes")


def _relative_error(null: str) -> Column:
    meaning = "Worst relative error over all time steps and parameters, atol = 0"
    return Column("relative_error", _FLOAT, "relative", meaning, null=null)


_CHECKS = (
    Column(
        "stage",
        _TEXT,
        "name",
        "gate: at the ends of the study's ranges, before any table; sweep: a run of a sweep, verified",
    ),
    _ORACLE,
    Column("run_key", _TEXT, "hex", "The run that was checked"),
    Column("sweep", _TEXT, "name", "The sweep it belongs to"),
    Column("update", _INT, "updates", "Updates made before the gradient that was checked was taken"),
    Column("task", _TEXT, "name", "Task"),
    *_NETWORK,
    Column(
        "spectral_radius",
        _FLOAT,
        "1",
        "Spectral radius",
        null=f"weight_scale scales W_hh, or it stays as drawn; {NO_MATRIX}",
    ),
    _LENGTH,
    Column("dtype", _TEXT, "name", "Floating-point type"),
    _DEVICE,
    Column("regime", _TEXT, "name", "vanishing, stable or exploding", null="sequences of one step, or not a number"),
    _relative_error(null="not finite, on both sides; or memory_mb has no room for every step"),
    Column("where", _TEXT, "name", "The time step or parameter that it was found at"),
    _TOLERANCE,
)

_TIMINGS = (
    Column("seconds", _FLOAT, "s", "Wall time of the run inside its job"),
    Column("verify_seconds", _FLOAT, "s", "Wall time of its verification", null="not in the sample"),
)

_VERIFICATION = (
    *_NETWORK,
    Column("layers", _INT, "layers", "Number of layers L"),
    Column("regime", _TEXT, "name", "What the network was drawn for: vanishing, critical or exploding gradients"),
    _LENGTH,
    Column("loss_at", _TEXT, "name", "Steps that carry a loss: last or every"),
    _DEVICE,
    _ORACLE,
    Column(
        "growth_rate",
        _FLOAT,
        "ln per step",
        "Measured mean change of ln ‖∂L/∂h_t‖ per step back, over max(T, 50) steps, for the last step's loss alone; of a stack in its last layer",
    ),
    _relative_error(null="the oracle abstains: there was nothing that it can compare"),
    Column("where", _TEXT, "name", "The time step or parameter that it was found at; or why the oracle abstains"),
    _TOLERANCE,
    Column("passed", _BOOL, "true/false", "The error is at most the tolerance", null="the oracle abstains"),
)

_THEORY = (
    _SWEEP,
    Column("seeds", _INT, "seeds", "Networks of the setting, counted from 0"),
    *(column for name in SETTING for column in _settings() if column.name == name),
    Column(
        "sigma_w", _FLOAT, "1", "σ_w of the setting's networks: root mean square over seeds and gates, to three digits"
    ),
    Column("sigma_u", _FLOAT, "1", "σ_u: standard deviation of the input part"),
    Column(
        "dynamic_rate",
        _FLOAT,
        "ln per step",
        "Growth rate of an infinitely wide network by dynamic mean field, from a sample of single units",
        null="its state does not settle, so that the rate depends on T",
    ),
    Column(
        "dynamic_error",
        _FLOAT,
        "ln per step",
        "Standard error of dynamic_rate",
        null="as dynamic_rate, or a gradient of zero",
    ),
    Column("hidden_rms", _FLOAT, "1", "Root mean square of h_t in that network"),
    Column("preactivation_rms", _FLOAT, "1", "Root mean square of its preactivations, √(σ_w² hidden_rms² + σ_u²)"),
)

_CLIFF = (
    Column("what", _TEXT, "name", "surface: a point of the grid; ridge: the bias at which |∂E/∂b| is largest, of one weight; descent: a point on a path"),
    Column("clipping", _TEXT, "name", "Clipping rule of the path", null="surface or ridge"),
    Column("update", _INT, "updates", "Updates made before, on a path", null="surface or ridge"),
    Column("weight", _FLOAT, "1", "Weight w of the unit"),
    Column("bias", _FLOAT, "1", "Bias b of the unit"),
    Column("hidden", _FLOAT, "1", "σ(x_T), what the unit says at the last step"),
    Column("loss", _FLOAT, "1", "E = (σ(x_T) − target)²"),
    Column("grad_weight", _FLOAT, "1", "∂E/∂w; ±∞ beyond the range of floats"),
    Column("grad_bias", _FLOAT, "1", "∂E/∂b; ±∞ beyond the range of floats"),
    Column("log10_grad_norm", _FLOAT, "log10", "log10 of the norm of (∂E/∂w, ∂E/∂b), exact beyond the range of floats"),
)  # fmt: skip

TABLES = ("traces", "updates", "runs", "checks", "timings")
ASKED_FOR = {"spectra": "spectra", "cliff": "cliff"}  # table -> the key of a config without which there is none
LAYERS = "layers"  # the table of a study in which some run has several layers or directions
THEORY = "theory"  # the table of a study with settings that have a dynamic theory
MEANING = {
    "traces": "Gradient norm at every time step: run × recorded update × t; of several layers that of the last, which the readout reads, and of two directions the forward one's",
    "layers": "The same of every layer and direction: run × recorded update × layer × direction × t. Only of a study in which a sweep has `layers` above 1, or `bidirectional: true`",
    "updates": "Every training update: run × update; of an untrained run its one gradient",
    "runs": "One row a run: its settings, what was measured, what theory predicts. What is said of one recurrence is said of the last layer, forward",
    "theory": "Theory of infinitely wide leaky and gated networks: one row a setting, whatever its lengths. Only of a study that has such cells, with Gaussian weights and white inputs",
    "spectra": "Lyapunov exponents and singular values before training: run × sample × direction. Only of a study whose config has the key `spectra`",
    "cliff": "Loss and gradient of one recurrent unit over its weight and bias, and paths of gradient descent there. Only of a study whose config has the key `cliff`",
    "checks": "Every comparison of the engine with an independent program",
    "timings": "Where the time went. Kept apart because it is the one table that differs from one execution to the next",
}


def tables_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The tables of a study with this config."""
    asked = (table for table, key in ASKED_FOR.items() if key in config)
    return (
        *TABLES,
        *asked,
        *([LAYERS] if has_several_recurrences(config) else []),
        *([THEORY] if sampled_settings(config) else []),
    )


def has_several_recurrences(config: Mapping[str, Any]) -> bool:
    """Whether any run of a study has more than one layer or direction."""
    return has_several_layers(config) or True in values_of(config, "bidirectional")


def has_several_layers(config: Mapping[str, Any]) -> bool:
    """Whether any run of a study has more than one layer."""
    return any((layers or 1) > 1 for layers in values_of(config, "layers"))


@cache
def columns_of(table: str) -> tuple[Column, ...]:
    """All columns of a table, in order."""
    if table == "runs":
        return (_SWEEP, _KEY, *_settings(), *_MEASURED)
    if table == "checks":
        return _CHECKS
    if table == "theory":
        return _THEORY
    if table == "cliff":
        return _CLIFF
    if table == "verification":  # of ``make verify``, no table of a study
        return _VERIFICATION
    of_runs = {"traces": _TRACES, "layers": _LAYERS, "updates": _UPDATES, "spectra": _SPECTRA, "timings": _TIMINGS}
    return (_SWEEP, _KEY, *of_runs[table])


def schema_of(table: str) -> pa.Schema:
    """The Arrow schema of a table; meaning and unit travel in the field metadata."""
    return pa.schema(
        [pa.field(c.name, c.type, metadata={"unit": c.unit, "meaning": c.meaning}) for c in columns_of(table)]
    )
