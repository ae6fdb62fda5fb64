"""``make verify``: a small matrix passes, a planted mistake does not, an abstention is no pass, and the figure shows it all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import rnn_core as rc
from rnn_core import bptt
from rnn_core.oracles import complex_step
from rnn_core.oracles.compare import Abstains
from rnn_core.scaling import times
from study.report import style
from study.tables import store
from study.tables.columns import schema_of
from verification import differences, figure, run, segments
from verification.cases import STACKS, Case, all_cases, is_real, network_of, regimes_of
from verification.oracles import against_unrolled_autograd

pytestmark = pytest.mark.xdist_group("verification")  # one set-up for all

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Every cell × tanh, relu × regime at T = 3 and 23, one process."""
    cases = [case for case in all_cases((3, 23)) if case.activation in ("tanh", "relu") and case.loss_at == "every"]
    cases += [Case(cell, "tanh", "critical", 2, "every", layers=layers) for cell in rc.CELLS for layers in STACKS]
    return run.verify_all([(case, "cpu") for case in cases], processes=1)


def row(**changed: Any) -> dict[str, Any]:
    return {
        "cell": "vanilla", "activation": "tanh", "layers": 1, "regime": "critical", "sequence_length": 7, "loss_at": "last",
        "device": "cpu", "oracle": "torch.autograd", "growth_rate": 0.0, "relative_error": 1e-14, "where": "x, t = 1",
        "tolerance": 1e-10, "passed": True,
    } | changed  # fmt: skip


ABSTAINED = row(oracle="complex step", relative_error=None, where="out of range", passed=None)
FAILED = row(activation="relu", relative_error=0.3, where="hidden, t = 2", passed=False)


# ---- the matrix --------------------------------------------------------------------------------------------------------


def test_a_small_matrix_passes_with_every_cell_and_oracle(rows: Rows) -> None:
    assert run.failures(rows) == []
    assert {r["cell"] for r in rows} == set(rc.CELLS)
    modules = {"torch.nn.RNN", "torch.nn.GRU", "torch.nn.LSTM"}
    everywhere = {"torch.autograd", "complex step", "central differences"}
    assert {r["oracle"] for r in rows} == everywhere | modules | {"torch.autograd, unrolled"}
    assert {r["sequence_length"] for r in rows if r["oracle"] == "central differences"} == {2, 3}
    of_stacks = [r for r in rows if r["layers"] > 1]
    assert {(r["cell"], r["layers"], r["oracle"]) for r in of_stacks} >= {
        (cell, layers, oracle)
        for cell in rc.CELLS
        for layers in STACKS
        for oracle in (*everywhere, "torch.autograd, unrolled")
    }
    strict = [r for r in rows if r["oracle"] != "central differences"]
    assert all(r["relative_error"] is not None and r["tolerance"] == 1e-10 for r in strict)


def test_the_full_matrix_is_every_combination_once() -> None:
    cases = list(all_cases())
    regimes = [(cell, regime) for cell in rc.CELLS for regime in regimes_of(cell)]
    single = [case for case in cases if case.layers == 1]
    assert len(set(cases)) == len(cases)
    assert len(single) == len(regimes) * len(rc.ACTIVATIONS) * 5 * 2
    exploding = [cell for cell, regime in regimes if regime == "exploding"]
    assert len(cases) - len(single) == (2 * len(regimes) - len(exploding)) * 3 * 2 * len(
        STACKS
    )  # tanh does not explode


def test_regimes_are_real(rows: Rows) -> None:
    assert all(is_real(r["regime"], r["growth_rate"]) for r in rows)


def test_a_deeper_stack_is_another_network_of_the_same_sizes() -> None:
    two, three = (network_of(Case("lstm", "relu", "critical", 7, "last", layers=layers)) for layers in STACKS)
    assert set(three.problem.params) - set(two.problem.params) == {
        f"{name}_l2" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    for problem in (two.problem, three.problem):
        assert problem.layers == problem.experiment.layers and problem.params["weight_ih_l1"].shape == (20, 5)
        assert all((value != 0).all() for name, value in problem.params.items() if name.startswith("bias"))


def test_another_seed_draws_another_network_and_the_same_seed_the_same() -> None:
    case = Case("gru", "tanh", "critical", 2, "last")
    first, again, other = (network_of(c).problem.params for c in (case, case, replace(case, seed=1)))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)
    assert all((value != 0).all() for name, value in first.items() if name.startswith("bias"))


@pytest.mark.parametrize("activation", ["identity", "relu"])
def test_a_long_explosion_can_be_compared(activation: str) -> None:
    """The gradients leave float range at T = 1000; states and loss do not, so every oracle has something to compare."""
    case = Case("vanilla", activation, "exploding", 1000, "last")
    network = network_of(case)
    evaluation = rc.evaluate(network.problem, network.problem.params, network.x, network.target)
    assert isinstance(evaluation.gradients.hidden, rc.Scaled) and math.isfinite(evaluation.loss)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        assert segments.against_complex_step(network, evaluation)[0] < 1e-10


# ---- planted mistakes --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("readable")
def test_a_transposed_matrix_fails_and_the_message_names_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = rc.VanillaCell.backward

    def transposed(self: Any, params: Any, saved: Any, dstate: Any) -> Any:
        return sound(self, {**params, "weight_hh": params["weight_hh"].T}, saved, dstate)

    monkeypatch.setattr(rc.VanillaCell, "backward", transposed)
    case = Case("vanilla", "tanh", "vanishing", 7, "last")
    found = run.verify((case, "cpu"))
    assert [r["passed"] for r in found] == [False] * 4
    lines = run.failures(found)
    for oracle in ("torch.autograd", "torch.nn.RNN", "complex step", "central differences"):
        (line,) = [line for line in lines if oracle in line]
        assert "vanilla, tanh, vanishing, T = 7, loss at last, cpu" in line and " at " in line.split(oracle)[1]
    assert {r["where"] for r in found} <= {part.split(" at ")[2].split(", above")[0] for part in lines}


def sends_too_much(sound: Any, told: bool) -> Any:
    """A backward pass of a stack in which a layer sends 1 % too much to the one below it; ``told``: and returns it so."""

    def wrong(tapes: Any, grad_hidden: Any, **options: Any) -> Any:
        found: list[Any] = []
        given = grad_hidden
        for tape in reversed(tapes):
            (gradients,) = sound([tape], given, **options)
            given = times(gradients.x, 1.01)
            found.append(replace(gradients, x=given) if told and len(found) + 1 < len(tapes) else gradients)
        return found[::-1]

    return wrong


@pytest.mark.parametrize("told", [False, True])
def test_what_layers_send_each_other_is_checked(told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer by itself is right, or the program of all of them is the engine's own."""
    monkeypatch.setattr(bptt, "back_through_stack", sends_too_much(bptt.back_through_stack, told))
    found = run.verify((Case("gru", "tanh", "critical", 7, "every", layers=3), "cpu"))
    errors = {
        r["oracle"]: r["relative_error"] for r in found if r["oracle"] != "torch.nn.GRU"
    }  # goes backward by itself
    assert len(errors) == 4 and min(errors.values()) > 1e-3, errors


def test_a_parameter_of_one_layer_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = bptt.stack_gradients
    changed = {"weight_hh_l1": 1.0 + 1e-5}
    monkeypatch.setattr(
        bptt, "stack_gradients", lambda *g: {n: times(v, changed.get(n, 1.0)) for n, v in sound(*g).items()}
    )
    found = run.verify((Case("vanilla", "relu", "critical", 7, "last", layers=2), "cpu"))
    failed = {r["oracle"]: r["where"] for r in found if r["passed"] is False}
    assert failed == dict.fromkeys(
        ("torch.autograd", "torch.autograd, unrolled", "central differences"), "weight_hh_l1"
    )


def test_plain_floats_abstain_where_they_do_not_hold_a_gradient() -> None:
    network = network_of(Case("vanilla", "tanh", "vanishing", 7, "last", layers=2))
    faint = replace(
        network,
        problem=replace(
            network.problem,
            params={**network.problem.params, "weight_ho": 1e-290 * network.problem.params["weight_ho"]},
        ),
    )
    evaluation = rc.evaluate(faint.problem, faint.problem.params, faint.x, faint.target)
    with pytest.raises(Abstains, match="plain floats do not hold a gradient"):
        against_unrolled_autograd(faint, evaluation)


@pytest.mark.usefixtures("readable")
def test_a_segment_boundary_of_the_complex_step_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that forgets the signal at one step is seen wherever that step lies beside a boundary."""
    sound = rc.LSTMCell.total
    monkeypatch.setattr(
        rc.LSTMCell, "total", lambda self, saved, d: {**sound(self, saved, d), "hidden": 1.1 * d["hidden"]}
    )
    network = network_of(Case("lstm", "tanh", "critical", 23, "every"))
    evaluation = rc.evaluate(network.problem, network.problem.params, network.x, network.target)
    assert segments.against_complex_step(network, evaluation)[0] > 1e-3


def test_a_failure_sets_the_exit_status(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setattr(run, "verify_all", lambda jobs, processes: [row(), FAILED])
    assert run.main(["--output", str(tmp_path), "--lengths", "1"]) == 1
    assert "vanilla, relu, critical, T = 7" in capsys.readouterr().err
    monkeypatch.setattr(run, "verify_all", lambda jobs, processes: [row(), ABSTAINED])
    assert run.main(["--output", str(tmp_path), "--lengths", "1"]) == 0
    assert "1 comparisons, 0 failed; 1 abstentions" in capsys.readouterr().out


# ---- abstentions -------------------------------------------------------------------------------------------------------


def test_an_abstention_is_no_pass_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_range(*_: Any, **__: Any) -> Any:
        raise complex_step.OutOfRange("hidden: its imaginary part is lost to underflow")

    monkeypatch.setattr(complex_step, "complex_step_gradients", out_of_range)
    found = run.verify((Case("vanilla", "tanh", "vanishing", 2, "last"), "cpu"))
    (abstained,) = [r for r in found if r["oracle"] == "complex step"]
    assert abstained["passed"] is None and abstained["relative_error"] is None
    assert abstained["where"] == "out of the range of the complex step: lost to underflow"
    text = run.markdown(found, {"seed": 0})
    assert "| vanilla | complex step | 0 | 0 | 1 | none |" in text
    assert "| complex step | 1 | out of the range of the complex step: lost to underflow |" in text


def test_central_differences_abstain_at_a_kink() -> None:
    network = network_of(Case("vanilla", "relu", "critical", 1, "last"))
    p = network.problem.params
    p["bias_hh"] += -(p["weight_ih"] @ network.x[0].T + (p["bias_ih"] + p["bias_hh"])[:, None])[:, 0] + 1e-9
    evaluation = rc.evaluate(network.problem, p, network.x, network.target)
    with pytest.raises(Abstains, match="kink"):
        differences.against_central_differences(network, evaluation)


# ---- what is written ---------------------------------------------------------------------------------------------------


def test_the_table_reads_back_with_the_columns_described(rows: Rows, tmp_path: Path) -> None:
    run.write([*rows, ABSTAINED], tmp_path, {"lengths": [3, 23], "seed": 0}, ["cpu"])
    table = tmp_path / "engine_verification.parquet"
    back = pq.read_table(table)
    assert back.schema.remove_metadata().equals(schema_of("verification").remove_metadata())
    assert back.num_rows == len(rows) + 1 and back["passed"].null_count == back["relative_error"].null_count
    made = store.provenance_of(table)
    assert made["config"]["seed"] == 0 and made["engine"]
    assert all((tmp_path / f"engine_verification.{kind}").stat().st_size > 1000 for kind in ("md", "png", "svg"))


@pytest.mark.parametrize("given", [["--lengths", "0"], ["--lengths", "x"], ["--jobs", "0"], ["--seed", "-1"]])
def test_what_the_command_line_refuses(given: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        run.arguments(given)
    assert ended.value.code == 2
    assert "must be a whole number" in capsys.readouterr().err or given == ["--seed", "-1"]


def points(ax: Any) -> Iterator[float]:
    for artist in ax.collections:
        yield from artist.get_offsets()[:, 1]


def test_the_figure_shows_every_comparison(rows: Rows, tmp_path: Path) -> None:
    everything = [*rows, ABSTAINED, FAILED]
    run.write(everything, tmp_path, {"seed": 0}, ["cpu"])
    data = figure.frame(tmp_path / "engine_verification.parquet")
    with style.theme():
        drawn = figure.draw(data)
        drawn.draw_without_rendering()
    shown = [ax for ax in drawn.axes if ax.axison]
    assert len(shown) == len(figure.PANELS)
    for ax, panel in zip(shown, figure.PANELS, strict=True):
        here = data[data["panel"] == panel]
        assert sorted(points(ax)) == pytest.approx(sorted(here["drawn"].dropna()))
        assert [line.get_ydata()[0] for line in ax.lines if line.get_gid() == "tolerance"] == list(
            here["tolerance"].unique()
        )
        (counts,) = [text.get_text() for text in ax.texts if text.get_gid() == "counts"]
        abstained = int(here["drawn"].isna().sum())
        assert counts.startswith(f"{len(here) - abstained} compared, {abstained} abstained")
        assert ("1: out of range" in counts) == (panel == "complex step")
    compared = sum(r["passed"] is not None for r in everything)
    assert figure.headline(data).startswith(f"1 of {compared} comparisons of the engine")
    passed = data[data["passed"].fillna(True).astype(bool)]
    assert figure.headline(passed).startswith(f"All {compared - 1} comparisons")
