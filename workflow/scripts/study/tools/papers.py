"""Write docs/papers.md: which equation or figure of a paper is where in this project, with its number beside ours. ``make docs``.

What is printed as ours is computed when the page is written, and a test computes it again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import rnn_core as rc
from rnn_core.gate_biases import chrono
from rnn_core.initializers import ring
from study import PROJECT

PAGE = PROJECT / "docs" / "papers.md"
DRAWS = 100  # networks of a mean


@dataclass(frozen=True)
class Claim:
    """An equation, a figure or a number of a paper.

    Attributes:
        paper, place: who said it, and where.
        says: what, in a sentence without its end.
        code: the function, class or setting that has it here, as text of the page.
        test: the file and the name of the test that holds it, ``file.py::name``.
        published: the paper's number, as text; empty where it is no number.
        ours: computes our number.
        tolerance: by how much ours may differ from one machine to another.
        study: the config of a study about it.
    """

    paper: str
    place: str
    says: str
    code: str
    test: str
    published: str = ""
    ours: Callable[[], float] | None = None
    tolerance: float = 1e-9
    study: str = ""


def _critical_radius(cell: rc.Cell) -> float:
    """The spectral radius at which the law at rest of a drawn network is zero, by bisection."""
    low, high = 0.5, 4.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        grows = rc.theory.rest_rate(cell, cell.init_params(np.random.default_rng(0), 4, 48, spectral_radius=middle)) > 0
        low, high = (low, middle) if grows else (middle, high)
    return (low + high) / 2


def _mean_radius() -> float:
    drawn = [rc.recurrent_matrix(np.random.default_rng(seed), 64, "gaussian", sigma_w=1.0) for seed in range(DRAWS)]
    return float(np.mean([rc.spectral_radius(W, remember=False) for W in drawn]))


def _ring_power() -> float:
    """E |h|² of linear units whose eigenvalues lie in a ring, under unit white inputs: the mean of 1/(1 - |λ|²) over a draw."""
    drawn = [ring(np.random.default_rng(seed), 400, 0.9 / 0.99) for seed in range(DRAWS)]
    moduli = np.hypot(*(np.concatenate([np.diag(W, k)[::2] for W in drawn]) for k in (0, -1)))
    moduli *= math.sqrt(0.5 * (1.0 + (0.9 / 0.99) ** 2)) * 0.99
    return float(np.mean(1.0 / (1.0 - moduli**2)))


def _time_constant() -> float:
    """Mean over drawn LSTM units of T, where a unit keeps e^(-1/T) of its state a step: 1/ln(1 + e^(-b_f))."""
    bias = chrono(rc.LSTMCell(), np.random.default_rng(0), 20_000, 100).reshape(4, -1)[1]
    return float(np.mean(1.0 / np.log1p(np.exp(-bias))))


def _surviving() -> float:
    """The smallest singular value of a product of a hundred orthogonal Jacobians of a linear network."""
    cell = rc.VanillaCell("identity")
    params = cell.init_params(np.random.default_rng(0), 4, 32, "orthogonal", 1.0)
    tape = rc.forward(cell, params, np.zeros((100, 1, 4)))
    return float(np.exp(rc.theory.log_singular_values(tape)[-1]))


def _euler_growth() -> float:
    M = np.random.default_rng(51).standard_normal((32, 32)) / math.sqrt(32)
    return rc.theory.rest_rate(rc.AntisymmetricCell("tanh", step=0.1), {"weight_hh": M, "weight_ih": np.eye(32)})


CLAIMS = (
    Claim(
        "Pascanu, Mikolov & Bengio 2013", "section 2.1", "gradients of sigmoid units vanish where σ_max is below 1/γ", "`Activation.gamma`, `Cell.step_bound`, column `rate_bound`",
        "rnn_core/cells/test_activations.py::test_gamma_is_the_supremum", "4", lambda: 1.0 / rc.activation("sigmoid").gamma,
    ),
    Claim(
        "Pascanu, Mikolov & Bengio 2013", "equation 9", "Ω keeps the norm of the gradient from step to step", "`rc.omega`, setting `omega`", "rnn_core/bptt/test_omega.py::test_it_is_the_definition_by_autograd",
        study="pascanu_2013.yaml",
    ),
    Claim(
        "Pascanu, Mikolov & Bengio 2013", "figure 6", "the loss of one recurrent unit has a wall, at which a gradient step jumps away", "config key `cliff`, figure `cliff`", "rnn_core/experiment/test_cliff.py::test_points_of_known_value",
        study="cliff.yaml",
    ),
    Claim(
        "Pascanu, Mikolov & Bengio 2013", "figure 7", "clipping by norm learns temporal order at lengths where plain SGD does not", "tasks `temporal_order`, `temporal_order_3`; figure `success_rate`",
        "figures/test_success_rate.py", study="pascanu_2013.yaml",
    ),
    Claim(
        "Pascanu, Mikolov & Bengio 2013", "their program's log", "the loss of temporal order before training", "`rc.prepare(e).task.baseline`", "rnn_core/tasks/test_literature.py::test_the_baseline_is_the_published_one",
        "1.387", lambda: rc.prepare(rc.Experiment(task="temporal_order", sequence_length=50)).task.baseline, study="pascanu_2013.yaml",
    ),
    Claim(
        "Arjovsky, Shah & Bengio 2016", "copying memory", "the loss of copy memory without memory, S ln K/(T + 2S), at T = 100", "task `copy_memory`", "rnn_core/tasks/test_literature.py::test_the_baseline_is_the_published_one",
        "0.1733", lambda: rc.prepare(rc.Experiment(task="copy_memory", sequence_length=100)).task.baseline, study="long_memory.yaml",
    ),
    Claim(
        "He, Zhang, Ren & Sun 2015", "initialisation", "a network of relu units keeps its gradients at σ_w² = 2", "`rc.theory.critical_sigma_w`", "rnn_core/theory/test_theory.py::test_critical_sigma_w",
        "2", lambda: rc.theory.critical_sigma_w(rc.activation("relu"), 0.01) ** 2,
    ),
    Claim(
        "Saxe, McClelland & Ganguli 2014", "orthogonal weights", "a product of orthogonal Jacobians stretches no direction and shrinks none", "`initializer: orthogonal`, `rc.theory.log_singular_values`",
        "rnn_core/theory/test_singular_values.py::test_orthogonal_matrices_stretch_every_direction_alike", "1", _surviving, 1e-9, "isometry.yaml",
    ),
    Claim(
        "Girko 1985", "circular law", "ρ of a Gaussian matrix tends to σ_w as H grows; the mean at H = 64, in units of σ_w", "`rc.spectral_radius`, setting `weight_scale`", "rnn_core/cells/test_initializers.py::test_circular_law",
        "1 (H = ∞)", _mean_radius,
    ),
    Claim(
        "Engelken, Wolf & Abbott 2023", "data of rnn-lyapunov", "the largest Lyapunov exponent of an infinitely wide tanh network without inputs, σ_w = 3", "`rc.theory.dynamic_rate`",
        "rnn_core/theory/test_dynamic.py::test_published_edges_of_autonomous_networks", "0.3102", lambda: rc.theory.dynamic_rate(rc.VanillaCell("tanh"), 9.0, 0.0), 0.006, "spectra.yaml",
    ),
    Claim(
        "Engelken, Wolf & Abbott 2023", "data of rnn-lyapunov", "the same of a leaky network whose step and leak are ½", "`rc.theory.dynamic_rate`, `ResidualCell`",
        "rnn_core/theory/test_dynamic.py::test_published_edges_of_autonomous_networks", "0.1081", lambda: rc.theory.dynamic_rate(rc.ResidualCell("tanh", step=0.5, leak=0.5), 9.0, 0.0), 0.006,
    ),
    Claim(
        "Can, Krishnamurthy & Schwab 2020", "gates at rest", "at rest a GRU without biases turns at twice the radius of a vanilla network; the radius at H = 48", "`rc.theory.rest_rate`, column `rest_rate`", "rnn_core/theory/test_rest.py::test_a_gated_network_is_critical_at_two",
        "2 (H = ∞)", lambda: _critical_radius(rc.GRUCell()), 1e-6, "gates.yaml",
    ),
    Claim(
        "Chang, Chen, Haber & Chi 2019", "forward Euler", "Euler steps of ε = 0.1 of an antisymmetric network grow by ½ ln(1 + ε²ω²) a step, ω = 2.604", "`rc.AntisymmetricCell`", "rnn_core/cells/test_made_of_fewer_numbers.py::test_euler_steps_of_an_antisymmetric_network_explode",
        f"{0.5 * math.log1p(0.01 * 2.603946207185**2):.4f}", _euler_growth,
    ),
    Claim(
        "Orvieto et al. 2023", "proposition 3.3", "E h² of linear units with moduli in a ring from 0.9 to 0.99", "`rc.LRUCell`, `initializer: ring`", "rnn_core/cells/test_initializers.py::test_the_states_of_a_ring", "13.26", _ring_power, 1e-6,
    ),
    Claim(
        "Zucchet & Orvieto 2024", "curse of memory", "E (∂h/∂λ)² of a linear unit with λ = 0.9 and white inputs", "`rc.theory.memory_sensitivity`, figure `memory_curse`", "rnn_core/theory/test_nonnormal.py::test_the_curse_of_memory",
        "263.9", lambda: rc.theory.memory_sensitivity(0.9, 0.0).derivative, study="memory_curse.yaml",
    ),
    Claim(
        "Tallec & Ollivier 2018", "chrono initialisation", "chrono biases with T_max = 100 give a mean time constant of (T_max + 1)/2", "setting `chrono`", "rnn_core/experiment/test_gate_biases.py::test_the_mean_time_constant_of_chrono", "50.5", _time_constant, 1e-6,
        "remedies.yaml",
    ),
    Claim(
        "Turkoglu, D'Aronco, Wegner & Schindler 2021", "gradients of deep stacks", "gradients shrink or grow through layers as they do through time, and the cell decides which", "setting `layers`, table `layers`, figure `depth_time`",
        "rnn_core/bptt/test_stack.py::test_every_layer_is_that_of_a_whole_stack_in_autograd", study="depth.yaml",
    ),
    Claim("Ba, Kiros & Hinton 2016", "layer normalisation", "units are normalised before φ, so weights of any scale make the same network", "`rc.LayerNormCell`", "rnn_core/cells/test_layer_norm.py::test_the_scale_of_weights_makes_no_difference", study="remedies.yaml"),
    Claim("Li et al. 2018", "IndRNN", "every unit listens to itself alone", "`rc.IndRNNCell`", "rnn_core/cells/test_made_of_fewer_numbers.py::test_a_diagonal_cell_is_the_vanilla_cell_with_its_matrix"),
    Claim("Orvieto et al. 2023", "the linear recurrent unit", "a linear recurrence with complex eigenvalues", "`rc.LRUCell`", "rnn_core/cells/test_made_of_fewer_numbers.py::test_an_lru_is_the_papers_by_another_program", study="own_cells.yaml"),
    Claim("Beck et al. 2024", "sLSTM", "exponential gates with a stabiliser", "`rc.SLSTMCell`", "rnn_core/cells/test_slstm.py::test_it_is_the_papers_cell_by_another_program", study="own_cells.yaml"),
    Claim(
        "Engelken 2023", "gradient flossing", "updates before training bring the first Lyapunov exponents to zero", "`rc.flossing_loss`, settings `flossing`, `flossing_exponents`",
        "rnn_core/test_flossing.py::test_flossing_brings_exponents_to_zero", study="remedies.yaml",
    ),
    Claim("Feng et al. 2024", "minGRU", "a gate that looks at the input alone, and no recurrent matrix", "`rc.MinGRUCell`", "rnn_core/cells/test_mingru.py::test_it_is_the_papers_cell_by_another_program"),
    Claim("Gu & Dao 2023", "Mamba", "a selective state space as a step of a user's own", "`rc.TorchCell`, config key `cells`", "own_cells/test_papers.py", study="own_cells.yaml"),
    Claim("Wang et al. 2025", "AdaGC", "every parameter is clipped by the mean of its own norms before", "`clipping: adagc:1.05`", "rnn_core/experiment/test_adapting_clipping.py::test_it_is_the_published_algorithm"),
    Claim("Kumar et al. 2025", "ZClip", "a norm is clipped that lies too many deviations above the mean of those before", "`clipping: zclip:2.5`", "rnn_core/experiment/test_adapting_clipping.py::test_it_is_the_published_algorithm"),
    Claim("Graves 2013", "clipping", "the backward signal is clipped entry by entry at every step", "`clipping: signal:1.0`, `rc.backward(…, signal_threshold=…)`", "rnn_core/bptt/test_truncated.py::test_the_signal_is_clipped_at_every_step"),
)  # fmt: skip


def shown(value: float) -> str:
    """A number with four digits."""
    return f"{value:.4g}"


def row(claim: Claim, ours: str) -> str:
    """The claim as a row of the table."""
    file, _, name = claim.test.partition("::")
    test = f"`tests/{file}`" + (f", `{name}`" if name else "")
    study = f"`studies/{claim.study}`" if claim.study else ""
    return f"| {claim.paper}, {claim.place} | {claim.says} | {claim.published} | {ours} | {claim.code} | {study} | {test} |"


def page() -> str:
    """docs/papers.md."""
    lines = [
        "# Papers", "",
        "Written from the code by `make docs`; do not edit.", "",
        "You come with a paper in hand. This table says where its equation or figure is here: the function or the setting, the study that shows it, and the test that holds it.",
        "Where a paper has a number, ours stands beside it, computed when this page was written. Ours is of networks that are drawn or sampled where the paper's are infinitely wide.", "",
        "| paper | what it says | theirs | ours | here | study | test |",
        "|---|---|---|---|---|---|---|",
        *(row(claim, "" if claim.ours is None else shown(claim.ours())) for claim in CLAIMS), "",
    ]  # fmt: skip
    return "\n".join(lines)
