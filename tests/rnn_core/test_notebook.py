"""What a notebook shows: objects by themselves, and one sentence for every wrong argument."""

from __future__ import annotations

import copy
import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.scaling import in_powers_of_ten
from tests.support.arrays import LIBRARIES, array

T, B, D, H = 7, 4, 3, 5


def network(cell: str = "vanilla", T: int = T, library: str = "numpy", **options: Any) -> rc.Tape:
    rng = np.random.default_rng(0)
    made = rc.CELLS[cell]("tanh")
    params = {name: array(value, library) for name, value in made.init_params(rng, D, H).items()}
    return rc.forward(made, params, array(rng.standard_normal((T, B, D)), library), **options)


# ---- reprs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_tape_says_its_sizes(library: str) -> None:
    """T, B, D, H or the dtype is another's, or a tape that keeps checkpoints says that it keeps all."""
    assert (
        repr(network(library=library))
        == "Tape(VanillaCell(activation='tanh'), T=7, B=4, D=3, H=5, float64, keeps every step)"
    )
    assert repr(network(T=300, memory_budget=1)).endswith("H=5, float64, keeps a checkpoint every 128 steps)")


@pytest.mark.parametrize("library", LIBRARIES)
def test_gradients_say_shapes_and_norms(library: str) -> None:
    """A shape or a norm is another's, or t counts from 0."""
    tape = network("lstm", library=library)
    gradients = rc.backward(tape, array(np.ones((T, B, H)), library))
    lines = repr(gradients).splitlines()
    assert lines[:4] == [
        "Gradients(T=7, B=4, H=5, float64",
        "  params: weight_ih (20, 3), weight_hh (20, 5), bias_ih (20,), bias_hh (20,)",
        "  steps: hidden (7, 4, 5), cell (7, 4, 5), x (7, 4, 3)",
        "  state: hidden (4, 5), cell (4, 5)",
    ]
    log10 = gradients.log_norm / math.log(10.0)
    smallest, largest = log10.argmin(), log10.argmax()
    assert lines[4:] == [
        f"  log10 ‖dL/dh_t‖: smallest {log10[smallest]:.2f} at t={smallest + 1}, largest {log10[largest]:.2f} at t={largest + 1})"
    ]


def test_gradients_say_what_was_not_kept_what_is_zero_and_what_is_scaled() -> None:
    """A gradient beyond the range, of no size at all, or that was not kept looks like any other."""
    tape = rc.forward(
        rc.VanillaCell("identity"),
        {"weight_ih": np.ones((1, 1)), "weight_hh": np.full((1, 1), 1e-300)},
        np.ones((4, 1, 1)),
    )
    text = repr(rc.backward(tape, grad_state={"hidden": np.ones((1, 1))}))
    assert "hidden (4, 1, 1) Scaled" in text and "state: hidden (1, 1) Scaled" in text
    assert "smallest -900.00 at t=1, largest 0.00 at t=4" in text
    assert "log10 ‖dL/dh_t‖: zero at 7 of 7 steps" in repr(rc.backward(network()))
    assert "not finite at 7 of 7 steps" in repr(rc.backward(network(), np.full((T, B, H), np.nan)))
    assert "steps: hidden not kept, x not kept" in repr(rc.backward(network(memory_budget=1), np.ones((T, B, H))))


def test_what_was_not_kept_says_why() -> None:
    """A notebook shows an address."""
    hidden = rc.backward(network(memory_budget=1)).hidden
    assert repr(hidden) == "NotKept('hidden': more than the tape's memory_budget holds)"
    with pytest.raises(LookupError, match=r"grads.hidden was not kept: the tape's memory_budget"):
        hidden[0]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_scaled_number_is_read_as_a_power_of_ten(library: str) -> None:
    """A mantissa and a power of two mean nothing to a reader, or digits or the sign are wrong."""
    assert repr(rc.Scaled(array(np.array(-1.5), library), 5000)) == "Scaled(-2.1187·10^1505)"
    matrix = rc.Scaled(array(np.ones((2, 3)), library), 5000)
    assert repr(matrix) == "Scaled(shape (2, 3), float64, exponent 5000, norm 3.45982·10^1505)"
    rows = rc.Scaled(array(np.ones((2, 3)), library), np.array([-5000, 5000]))
    assert repr(rows) == "Scaled(shape (2, 3), float64, an exponent a row, norm 2.44646·10^1505)"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1·10^0"),
        (0.0, "0"),
        (9.9999999, "1·10^1"),
        (0.00123456, "1.23456·10^-3"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_numbers_in_powers_of_ten(number: float, text: str) -> None:
    """A number is rounded up to ten times a power, or is shown with another power."""
    with np.errstate(divide="ignore"):
        assert in_powers_of_ten(float(np.log(number))) == text


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_name_that_is_not_there_leads_to_the_one_that_was_meant(library: str) -> None:
    """A user writes W_hh, as papers do, or a typing error, and reads only that name again."""
    tape = network("lstm", library=library)
    gradients = rc.backward(tape, array(np.ones((T, B, H)), library))
    asked: list[tuple[Any, str, str]] = [
        (gradients.params, "W_hh", "weight_hh"),
        (gradients.params, "weight_hh_l0", "weight_hh"),
        (gradients.params, "b_ih", "bias_ih"),
        (gradients.params, "wieght_ih", "weight_ih"),
        (gradients.state, "h", "hidden"),
        (gradients.state, "c_0", "cell"),
        (gradients.log_norms, "hiden", "hidden"),
        (gradients.parts, "c", "cell"),
        (tape.state, "h_t", "hidden"),
    ]
    for arrays, given, meant in asked:
        with pytest.raises(KeyError, match=f"'{given}' is not there; did you mean '{meant}'"):
            arrays[given]
        assert given not in arrays and arrays.get(given) is None
    with pytest.raises(KeyError, match=r"'zzz' is not there \(the names are hidden, cell\)"):
        gradients.state["zzz"]


WRONG_NAMES: list[tuple[type[Exception], str, Callable[[], object]]] = [
    (AttributeError, "rnn_core has no 'LSTM'; did you mean rc.LSTMCell?", lambda: rc.LSTM),
    (AttributeError, "rnn_core has no 'RNN'; did you mean rc.VanillaCell?", lambda: rc.RNN),
    (AttributeError, "rnn_core has no 'VanilaCell'; did you mean rc.VanillaCell?", lambda: rc.VanilaCell),
    (AttributeError, "Gradients has no attribute 'W_hh'; did you mean params['weight_hh']?", lambda: rc.backward(network()).W_hh),
    (AttributeError, "Gradients has no attribute 'lognorm'; did you mean log_norm?", lambda: rc.backward(network()).lognorm),
    (AttributeError, "Tape has no attribute 'h'; did you mean hidden?", lambda: network().h),
    (AttributeError, "Tape has no attribute 'W_hh'; did you mean params['weight_hh']?", lambda: network().W_hh),
    (AttributeError, "Result has no attribute 'growth_rate'; did you mean result['growth_rate']?", lambda: rc.run(rc.Experiment(sequence_length=5)).growth_rate),
    (TypeError, "init_params has no argument 'rho'; it has rng, input_size, .* Did you mean 'spectral_radius'?", lambda: rc.GRUCell().init_params(np.random.default_rng(0), 2, 3, rho=1.0)),  # type: ignore[call-arg]
]  # fmt: skip


@pytest.mark.parametrize(("kind", "message", "call"), WRONG_NAMES, ids=[message[:40] for _, message, _ in WRONG_NAMES])
def test_a_wrong_name_leads_to_the_right_one(kind: type[Exception], message: str, call: Callable[[], object]) -> None:
    """A user of another library types its name, and a notebook says only that it is not there."""
    with pytest.raises(kind, match=f"^{re.escape(message).replace(re.escape('.*'), '.*')}$"):
        call()


def test_what_python_asks_for_is_answered_as_ever() -> None:
    """A copy, a pickle or a look for a method of a protocol ends in an error of its own."""
    gradients = rc.backward(network(), np.ones((T, B, H)))
    for value in (gradients, gradients.params, network(), rc.run(rc.Experiment(sequence_length=5))):
        assert repr(copy.copy(value)) == repr(value)
        assert (not hasattr(value, "_repr_html_") and not hasattr(value, "__len__")) or isinstance(value, dict)
    assert pickle.loads(pickle.dumps(gradients.params)).keys() == gradients.params.keys()
    assert not hasattr(rc, "__wrapped__")


# ---- wrong arguments -----------------------------------------------------------------------------------------------------

tape = network()
lstm = network("lstm")
ones = np.ones((T, B, H))
FORWARD: list[tuple[str, Callable[[], object]]] = [
    ("x: list is not allowed; it must be a NumPy array or a torch tensor", lambda: rc.forward(tape.cell, tape.params, tape.x.tolist())),
    ("x: shape (4, 3) is not allowed; it must be (T, B, D)", lambda: rc.forward(tape.cell, tape.params, tape.x[0])),
    ("x: shape (7, 4, 2) does not fit; expected (7, 4, 3), which is (T, B, D)", lambda: rc.forward(tape.cell, tape.params, tape.x[:, :, :2])),
    ("x: dtype int64 is not allowed; it must be float64 or float32", lambda: rc.forward(tape.cell, tape.params, tape.x.astype(int))),
    ("weight_ih: NumPy does not fit; x is torch", lambda: rc.forward(tape.cell, tape.params, torch.tensor(tape.x))),
    ("params: NoneType is not allowed; it must be {name: array}, as cell.init_params gives it", lambda: rc.forward(tape.cell, None, tape.x)),  # type: ignore[arg-type]
    ("params: ndarray is not allowed; it must be {name: array}", lambda: rc.forward(tape.cell, tape.x, tape.params)),
    ("params: weight_hh is missing", lambda: rc.forward(tape.cell, {"weight_ih": tape.params["weight_ih"]}, tape.x)),
    ("weight_hh: list is not allowed", lambda: rc.forward(tape.cell, {**tape.params, "weight_hh": [[1.0]]}, tape.x)),
    ("weight_hh: shape (20, 20) does not fit; expected (20, 5), which is (4H, H)", lambda: rc.forward(lstm.cell, {**lstm.params, "weight_hh": np.ones((20, 20))}, tape.x)),
    ("state: ndarray is not allowed; it must be {name: (B, H)}", lambda: rc.forward(tape.cell, tape.params, tape.x, np.ones((B, H)))),  # type: ignore[arg-type]
    ("state: 'hiden' is not known; allowed: hidden. Did you mean 'hidden'?", lambda: rc.forward(tape.cell, tape.params, tape.x, {"hiden": np.ones((B, H))})),
    ("state: 'h_0' is not known; allowed: hidden. Did you mean 'hidden'?", lambda: rc.forward(tape.cell, tape.params, tape.x, {"h_0": np.ones((B, H))})),
    ("state['hidden']: shape (5, 4) does not fit; expected (4, 5), which is (B, H)", lambda: rc.forward(tape.cell, tape.params, tape.x, {"hidden": np.ones((H, B))})),
    ("state: cell is missing", lambda: rc.forward(lstm.cell, lstm.params, lstm.x, {"hidden": np.ones((B, H))})),
]  # fmt: skip
BACKWARD: list[tuple[str, Callable[[], object]]] = [
    ("tape: ndarray is not allowed; it must be what rc.forward returns", lambda: rc.backward(tape.x, ones)),  # type: ignore[arg-type]
    ("grad_hidden: list is not allowed", lambda: rc.backward(tape, ones.tolist())),
    ("grad_hidden: shape (4, 5) does not fit; expected (7, 4, 5), which is (T, B, H)", lambda: rc.backward(tape, ones[-1])),
    ("grad_hidden: torch does not fit; x is NumPy", lambda: rc.backward(tape, torch.ones((T, B, H)).double())),
    ("grad_hidden: float32 on cpu does not fit; x is float64 on cpu", lambda: rc.backward(tape, ones.astype(np.float32))),
    ("grad_hidden(start, stop): shape (1, 4, 5) does not fit; expected (7, 4, 5), which is (stop - start, B, H)", lambda: rc.backward(tape, lambda start, stop: ones[:1])),
    ("grad_state: 'cell' is not known; allowed: hidden", lambda: rc.backward(tape, ones, {"cell": ones[0]})),
    ("grad_state: ndarray is not allowed; it must be {name: (B, H)}", lambda: rc.backward(tape, ones, ones[0])),  # type: ignore[arg-type]
    ("grad_state['hidden']: shape (5,) does not fit; expected (4, 5), which is (B, H)", lambda: rc.backward(tape, ones, {"hidden": np.ones(H)})),
    ("grad_state['hidden']: torch does not fit; x is NumPy", lambda: rc.backward(tape, ones, {"hidden": torch.ones((B, H)).double()})),
    ("weight_ih: shape (3, 5) looks transposed; with this weight_hh it is (5, inputs)", lambda: rc.forward(tape.cell, {**tape.params, "weight_ih": tape.params["weight_ih"].T}, tape.x)),
    ("grad_state['hidden']: a state needs one exponent for all its entries, and this has one per row", lambda: rc.backward(tape, ones, {"hidden": rc.Scaled(ones[0], np.ones(B, int))})),
    ("states: 'cell' is not known; allowed: hidden", lambda: tape.states("cell")),
    ("mantissa: list is not allowed; it must be a NumPy array or a torch tensor", lambda: rc.Scaled([1.0], 3)),
    ("exponent: shape () of float64 is not allowed; it must be one integer, or one for every leading index of the mantissa, whose shape is (3, 2)", lambda: rc.Scaled(np.ones((3, 2)), 1.5)),  # type: ignore[arg-type]
    ("exponent: shape (2,) of int64 is not allowed", lambda: rc.Scaled(np.ones((3, 2)), np.ones(2, int))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "call"), FORWARD + BACKWARD, ids=[message[:40] for message, _ in FORWARD + BACKWARD]
)
def test_a_wrong_argument_is_told_in_a_sentence(message: str, call: Callable[[], object]) -> None:
    """Another error is raised, from deep inside; or it names another argument, another shape or another remedy."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        call()
