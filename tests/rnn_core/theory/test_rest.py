"""The law at rest: exact for every cell, against closed forms, published recipes and runs of the engine."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rnn_core as rc
from rnn_core.oracles.jacobians import jacobians
from rnn_core.theory import rest_rate


def drawn(seed: int, H: int, gain: float, gates: int) -> np.ndarray:
    """W_hh of the recipe N(seed, H, gain, gates) of science.md, section 2: one block after the other."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.standard_normal((H, H)) * gain / np.sqrt(H) for _ in range(gates)])


def gru_params(b_z: float = 0.0, b_r: float = 0.0) -> dict[str, np.ndarray]:
    return {"weight_hh": drawn(61, 16, 1.5, 3), "bias_hh": np.repeat([b_r, b_z, 0.0], 16)}


def sigma(a: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-a))


def ln_rho(J: np.ndarray) -> float:
    return math.log(np.abs(np.linalg.eigvals(J)).max())


@pytest.mark.parametrize("cell", [rc.GRUCell(), rc.GRUResetBeforeCell()])
@pytest.mark.parametrize(("b_z", "b_r", "expected"), [(0.0, 0.0, -0.2267307184740), (1.5, -0.5, -0.1067926773589)])
def test_a_gru_of_an_independent_program(cell: rc.Cell, b_z: float, b_r: float, expected: float) -> None:
    """A gate's sign or share is wrong, or the two forms differ at rest (science.md, R15)."""
    assert rest_rate(cell, gru_params(b_z, b_r)) == pytest.approx(expected, abs=1e-12)


def test_an_lstm_and_a_residual_cell_of_an_independent_program() -> None:
    """The forget gate's bias scales the wrong part, or the leak is forgotten (science.md, R15)."""
    lstm = {"weight_hh": drawn(71, 16, 1.5, 4), "bias_ih": np.repeat([0.0, 1.0, 0.0, 0.0], 16)}
    assert rest_rate(rc.LSTMCell(), lstm) == pytest.approx(0.1708244446544, abs=1e-12)
    residual = {"weight_hh": drawn(81, 20, 1.4, 1)}
    assert rest_rate(rc.ResidualCell(step=0.1, leak=0.1), residual) == pytest.approx(0.0688091656239, abs=1e-12)


def test_a_gated_network_is_critical_at_two() -> None:
    """Zero biases: GRU and LSTM neither shrink nor grow where W of the candidate has an eigenvalue 2."""
    rng = np.random.default_rng(0)
    for cell in (rc.GRUCell(), rc.GRUResetBeforeCell(), rc.LSTMCell()):
        params = cell.init_params(rng, 3, 24, "identity", 2.0)
        assert rest_rate(cell, params) == pytest.approx(0.0, abs=1e-14)
        assert rest_rate(cell, cell.init_params(rng, 3, 24, "gaussian", 1.9)) < 0.0


SMOOTH_AT_REST = ["tanh", "softsign", "gelu", "hard_tanh", "identity", "elu"]


def made(name: str, activation: str) -> tuple[rc.Cell, dict[str, np.ndarray]]:
    """A cell and parameters with a bias in every gate, drawn unit by unit, but not in the candidate."""
    rng, H = np.random.default_rng(7), 9
    options = {"step": 0.3, "leak": 0.4} if name == "residual" else {}
    cell = rc.cells.make_cell(name, activation, **options)
    params = cell.init_params(rng, 2, H, "gaussian", 1.3) if cell.has_matrix else cell.init_params(rng, 2, H)
    gates = np.repeat([gate != "candidate" for gate in cell.gates], H)
    both, part = (np.where(gates, rng.standard_normal(len(gates)), 0.0) for _ in range(2))
    return cell, params | {"bias_ih": part, "bias_hh": both - part}


@pytest.mark.parametrize("name", [name for name, kind in rc.CELLS.items() if "normaliser" not in kind.state_names])
@pytest.mark.parametrize("activation", SMOOTH_AT_REST)
def test_the_law_is_the_derivative_of_the_oracles_equations(name: str, activation: str) -> None:
    """A cell's derivative at rest is wrong, or its short form has other eigenvalues. (An sLSTM's normaliser rests elsewhere than at zero.)"""
    cell, params = made(name, activation)
    options = {option: getattr(cell, option) for option in cell.options}
    rest = {part: np.zeros((1, 9)) for part in cell.state_names}
    [J] = jacobians(name, activation, options, params, rest, np.zeros((1, 2)))
    assert rest_rate(cell, params) == pytest.approx(ln_rho(J), abs=1e-12)


# (W of the candidate, phi'(0), each gate's bias as a column) -> ∂h_t/∂h_{t-1} at rest, or what has its eigenvalues. By hand.
CLOSED_FORMS: dict[str, Callable[[np.ndarray, float, dict[str, np.ndarray]], np.ndarray]] = {
    "vanilla": lambda W, slope, b: slope * W,
    "residual": lambda W, slope, b: 0.6 * np.eye(9) + 0.3 * slope * W,
    "gru": lambda W, slope, b: sigma(b["update"]) * np.eye(9) + sigma(-b["update"]) * sigma(b["reset"]) * slope * W,
    # the reset gate scales what enters W, so columns
    "gru_reset_before": lambda W, slope, b: (
        sigma(b["update"]) * np.eye(9) + sigma(-b["update"]) * slope * W * sigma(b["reset"]).T
    ),
    "indrnn": lambda W, slope, b: slope * np.diag(W),
    "antisymmetric": lambda W, slope, b: np.eye(9) + 0.1 * slope * (W - W.T),
    "lru": lambda W, slope, b: slope * np.diag([*(W[:4] + 1j * W[5:]), W[4]]),
    # of the identity, what is left without its mean, over the root of epsilon
    "layer_norm": lambda W, slope, b: slope * (np.eye(9) - 1.0 / 9) @ W / math.sqrt(1e-5),
    "slstm": lambda W, slope, b: (
        sigma(b["forget"]) * np.eye(9) + sigma(-b["forget"]) * slope * W * sigma(b["output"]).T
    ),
    "lstm": lambda W, slope, b: (
        sigma(b["forget"]) * np.eye(9) + sigma(b["input"]) * slope**2 * W * sigma(b["output"]).T
    ),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
@pytest.mark.parametrize("activation", SMOOTH_AT_REST)
def test_the_closed_forms(name: str, activation: str) -> None:
    """Each gate's bias, drawn unit by unit: rows and columns are mixed up, or phi'(0) is counted once too seldom."""
    cell, params = made(name, activation)
    W = dict(zip(cell.gates, np.split(params["weight_hh"], len(cell.gates)), strict=True))["candidate"]
    biases = np.split(params["bias_ih"] + params["bias_hh"], len(cell.gates))
    expected = CLOSED_FORMS[name](
        W, float(cell.phi.df(np.zeros(1))[0]), {gate: b[:, None] for gate, b in zip(cell.gates, biases, strict=True)}
    )
    assert rest_rate(cell, params) == pytest.approx(ln_rho(expected), abs=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_the_short_form_of_an_lstm_has_the_eigenvalues_of_both_parts(activation: str) -> None:
    """H eigenvalues stand for 2H: the general derivative of hidden and cell must have the same ones, and H zeros."""
    cell, rng = rc.LSTMCell(activation), np.random.default_rng(1)
    params = cell.init_params(rng, 2, 7, "gaussian", 1.4)
    params["bias_hh"] = np.concatenate(
        [rng.standard_normal(7), rng.standard_normal(7), np.zeros(7), rng.standard_normal(7)]
    )
    short, both = cell.rest_jacobian(params), rc.Cell.rest_jacobian(cell, params)
    assert short is not None and both is not None and both.shape == (14, 14)
    moduli = np.sort(np.abs(np.linalg.eigvals(both)))
    np.testing.assert_allclose(moduli[7:], np.sort(np.abs(np.linalg.eigvals(short))), rtol=1e-10)
    assert moduli[:7].max() < 1e-6


@pytest.mark.parametrize("name", list(rc.CELLS))
def test_the_engine_obeys_the_law(name: str) -> None:
    """A network at rest: its gradient grows by the rate at every step, once it lies along the first eigenvector."""
    cell = rc.cells.make_cell(name, "tanh", **({"step": 0.2, "leak": 0.1} if name == "residual" else {}))
    rng, H = np.random.default_rng(3), 12
    # all directions grow alike, so there is nothing to wait for
    params = cell.init_params(rng, 2, H, *(("identity", 1.8) if cell.has_matrix else ()))
    start = {part: np.zeros((1, H)) for part in cell.state_names}
    if name == "slstm":  # its normaliser rests at i/(1 - f)
        start["normaliser"] += math.log(2.0)
    tape = rc.forward(cell, params, np.zeros((120, 1, 2)), start)
    grads = rc.backward(tape, grad_state={"hidden": rng.standard_normal((1, H))})
    measured = (grads.log_norm[0] - grads.log_norm[80]) / 80
    assert measured == pytest.approx(rest_rate(cell, params), abs=1e-12)


@pytest.mark.parametrize(
    ("cell", "bias"),
    [
        (rc.VanillaCell("sigmoid"), None),
        (rc.ResidualCell("softplus"), None),
        (rc.GRUCell("sigmoid"), None),
        (rc.LSTMCell("softplus"), None),
        (rc.VanillaCell(), 0),
        (rc.GRUCell(), 2),
        (rc.GRUResetBeforeCell(), 2),
        (rc.LSTMCell(), 2),
        (rc.VanillaCell("relu"), None),
        (rc.LSTMCell("leaky_relu"), None),
        (rc.GRUCell("selu"), None),
    ],
)
def test_where_rest_is_no_fixed_point_or_has_no_derivative(cell: rc.Cell, bias: int | None) -> None:
    """A rate is given for a point that the network leaves at once, or for a kink."""
    params = cell.init_params(np.random.default_rng(0), 2, 5)
    if bias is not None:
        params["bias_ih"][5 * bias + 3] = 1e-3
    assert math.isnan(rest_rate(cell, params))


def test_what_else_it_takes() -> None:
    """torch tensors, float32, no biases; a network without weights is dead at once."""
    import torch

    params = gru_params()
    as_torch = {name: torch.tensor(value) for name, value in params.items()}
    assert rest_rate(rc.GRUCell(), as_torch) == rest_rate(rc.GRUCell(), params)
    assert rest_rate(rc.VanillaCell(), {"weight_hh": np.eye(3, dtype=np.float32)}) == 0.0
    assert rest_rate(rc.VanillaCell(), {"weight_hh": np.zeros((3, 3))}) == -math.inf
    assert rest_rate(rc.LSTMCell(), {"weight_hh": np.zeros((12, 3))}) == pytest.approx(math.log(0.5), abs=1e-15)


@pytest.mark.parametrize(
    ("cell", "params", "message"),
    [
        ("gru", {}, "cell: str is not allowed"),
        (rc.GRUCell, {}, "cell: the class GRUCell is not allowed"),
        (rc.GRUCell(), [], "params: list is not allowed"),
        (rc.GRUCell(), {}, "params: weight_hh is missing; the cell 'gru' needs it"),
        (rc.GRUCell(), {"weight_hh": np.eye(3)}, r"weight_hh: shape \(3, 3\) does not fit; the cell 'gru' has \(3H, H\)"),
        (rc.VanillaCell(), {"weight_hh": np.eye(3), "bias_hh": np.zeros(4)}, r"bias_hh: shape \(4,\) does not fit; expected \(3,\)"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(cell: Any, params: Any, message: str) -> None:
    """A wrong call ends somewhere inside NumPy."""
    with pytest.raises(ValueError, match=message):
        rest_rate(cell, params)


def candidate_radius(problem: rc.Problem) -> float:
    """The spectral radius of the candidate's W."""
    gates = problem.cell.gates
    return rc.spectral_radius(np.split(problem.params["weight_hh"], len(gates))[gates.index("candidate")])


@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "gru"},
        {"cell": "gru_reset_before", "activation": "gelu"},
        {"cell": "lstm", "spectral_radius": 0.7},
        {"cell": "lstm", "forget_bias": 1.0},
        {"cell": "gru", "forget_bias": -0.5, "weight_scale": 0.9},
        {"cell": "residual", "residual_step": 0.3, "residual_leak": 0.4},
        {"cell": "residual", "residual_step": 0.1, "initializer": "orthogonal"},
        {"activation": "identity"},  # mean field would go by σ_w, and be off by a twentieth
        {"activation": "identity", "initializer": "identity", "spectral_radius": 1.3},
    ],
)
def test_the_critical_radius_of_a_run_is_where_the_law_at_rest_turns(settings: Any) -> None:
    """The root is of another eigenvalue, or of another scale: the same network, drawn at that radius, has the rate 0 at rest."""
    experiment = rc.Experiment(hidden_size=20, sequence_length=20, seed=4, **settings)
    result, problem = rc.run(experiment), rc.prepare(experiment)
    assert result["rest_rate"] == pytest.approx(rest_rate(problem.cell, problem.params), abs=1e-13)
    critical = result["critical_radius_predicted"]
    if critical == 0.0:  # without a leak one eigenvalue with a positive real part grows at any radius
        assert settings["cell"] == "residual" and "residual_leak" not in settings
        assert rest_rate(problem.cell, {"weight_hh": 1e-3 * problem.params["weight_hh"]}) > 0.0
        return
    for factor, sign in ((1.0, 0), (0.999, -1), (1.001, 1)):
        asked = {"weight_scale": None, "spectral_radius": factor * critical}
        if settings.get("weight_scale"):  # every gate as it was, the candidate's among them
            asked = {"weight_scale": settings["weight_scale"] * factor * critical / candidate_radius(problem), "spectral_radius": None}  # fmt: skip
        again = rc.prepare(rc.Experiment(**{**vars(experiment), **asked}))
        rate = rest_rate(again.cell, again.params)
        assert abs(rate) < 1e-10 if sign == 0 else sign * rate > 0.0


def test_a_run_says_what_theory_says_of_it() -> None:
    """Columns of mean field are those of another sigma, or of another cell."""
    from rnn_core.theory import correlation, critical_sigma_w, fixed_point

    result = rc.run(rc.Experiment(spectral_radius=1.6, input_scale=0.2, hidden_size=24, sequence_length=40, seed=2))
    phi, w2, u2 = rc.ACTIVATIONS["tanh"], result["sigma_w"] ** 2, result["sigma_u"] ** 2
    limit, copies = fixed_point(phi, w2, u2), correlation(phi, w2, u2)
    assert limit.chi > 1.0
    assert (result["mean_field_q"], result["chi"]) == pytest.approx((limit.q, limit.chi), rel=1e-9)
    assert (result["correlation"], result["depth_scale"]) == pytest.approx((copies.c, copies.scale), rel=1e-6)
    assert result["critical_radius_predicted"] == pytest.approx(
        critical_sigma_w(phi, u2) * 1.6 / result["sigma_w"], rel=1e-9
    )
    assert 0.1 < result["sigma_u"] < 0.3
    gated = rc.run(rc.Experiment(cell="gru", hidden_size=8, sequence_length=20))
    assert math.isnan(gated["chi"]) and math.isnan(gated["linear_rate"]) and math.isfinite(gated["rest_rate"])


@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell"])
def test_a_module_of_torch_has_the_law_of_the_cell(kind: str) -> None:
    """A user's own step: its derivative at rest by autograd is that of the equations."""
    import torch

    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(3, 8).double()
    gates = {"RNNCell": 1, "GRUCell": 3, "LSTMCell": 4}[kind]
    with torch.no_grad():
        for bias in (module.bias_ih, module.bias_hh):
            bias[8 * (2 if gates > 1 else 0) : 8 * (3 if gates > 1 else 1)] = 0.0  # of the candidate
        if kind == "LSTMCell":
            module.bias_ih[8:16] += 1.0
    own = rc.TorchCell(module)
    cell = {"RNNCell": rc.VanillaCell(), "GRUCell": rc.GRUCell(), "LSTMCell": rc.LSTMCell()}[kind]
    params = {name: value.numpy() for name, value in own.params().items()}
    assert rest_rate(own, own.params()) == pytest.approx(rest_rate(cell, params), abs=1e-12)
    module.bias_ih.data += 0.1
    assert math.isnan(rest_rate(own, own.params()))


def test_a_function_of_ones_own() -> None:
    """Its inputs' number is not known, and asked for."""
    import torch

    W = torch.tensor([[0.5, 0.2], [0.0, 1.5]], dtype=torch.float64)
    own = rc.TorchCell(
        lambda x, h: torch.sin(h @ W.T) + x if h is not None else torch.zeros((len(x), 2), dtype=x.dtype)
    )
    assert rest_rate(own, own.params(), input_size=2) == pytest.approx(math.log(1.5), abs=1e-12)
    with pytest.raises(ValueError, match="input_size: None is not allowed; the cell"):
        rest_rate(own, own.params())


def written(formula: str, biases: dict[str, np.ndarray], slope: float, W: np.ndarray) -> np.ndarray:
    """The matrix that a formula of ``rest_matrices`` stands for; a vector of biases is a diagonal."""
    H, total = len(W), np.zeros_like(W)
    known = {
        "I": np.eye(H),
        "W": W,
        "½": np.eye(H) / 2,
        "¼": np.eye(H) / 4,
        "φ′(0)": slope * np.eye(H),
        "φ′(0)²": slope**2 * np.eye(H),
    }
    for sign, factor in (("", 1.0), ("−", -1.0)):
        known |= {f"σ({sign}b_{letter})": np.diag(sigma(factor * b)) for letter, b in biases.items()}
    for term in formula.split(" + "):
        total = total + functools.reduce(np.matmul, [known[part] for part in term.split(" ")])
    return total


@pytest.mark.parametrize("name", [name for name, kind in rc.CELLS.items() if kind.rest_matrices])
@pytest.mark.parametrize("activation", ["tanh", "gelu"])
@pytest.mark.parametrize("biased", [False, True])
def test_the_law_that_captions_print_is_that_of_the_tables(name: str, activation: str, biased: bool) -> None:
    """Captions gave the formula for zero biases, while ``rest_rate`` used those of the study; or a cell's formula is another's."""
    cell, params = made(name, activation)
    if not biased:
        params |= {bias: np.zeros_like(params[bias]) for bias in ("bias_ih", "bias_hh")}
    parts = dict(zip(cell.gates, np.split(params["bias_ih"] + params["bias_hh"], len(cell.gates)), strict=True))
    letters = {"update": "z", "reset": "r"}
    biases = {letters.get(gate, gate[0]): b for gate, b in parts.items() if gate != "candidate"}
    candidate = cell.gates.index("candidate")
    W = np.split(params["weight_hh"], len(cell.gates))[candidate] if cell.has_matrix else np.zeros((9, 9))
    assert cell.rest_matrices is not None
    J = written(cell.rest_matrices[biased], biases, float(cell.phi.df(np.zeros(1))[0]), W)
    assert ln_rho(J) == pytest.approx(rest_rate(cell, params), rel=1e-12)
