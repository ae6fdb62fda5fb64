"""Captions say of a cell what holds for it: its law, its bound, and what would prove an error."""

from typing import Any

import pytest

from figures import gradient_norm_by_step, weight_gradient_by_step
from tests.figures.drawn import PROPAGATION, grid, render, show


def caption(module: Any, tables: Any) -> str:
    _, facts, _ = show(module, tables)
    return " ".join(render(module.__name__.removeprefix("figures."), facts=facts).split())


@pytest.mark.parametrize(("cell", "linear"), [("vanilla", True), ("gru", False)])
def test_a_gated_cell_with_the_identity_is_no_linear_network(cell: str, linear: bool, make_study: Any) -> None:
    """Its lines "must run in parallel" with the law at rest, or "the engine or the law would be wrong"; they do not, and nothing is."""
    tables = make_study(grid(**PROPAGATION, cell=cell, activation="identity", sequence_length=9, seed=[0, 1]))
    said = caption(gradient_norm_by_step, tables)
    assert ("must run in parallel in the long run" in said) == linear and "after a few steps" not in said


@pytest.mark.parametrize(
    ("functions", "words"),
    [
        (["identity"], ""),
        (["tanh"], "Where the solid line leaves the dashed one, the activation function is at work."),
        (
            ["identity", "tanh"],
            "Where the solid line of a network that is not linear leaves the dashed one, the activation",
        ),
    ],
)
def test_no_activation_function_is_at_work_in_a_linear_network(
    functions: list[str], words: str, make_study: Any
) -> None:
    """Every activation was the identity, and a line that left its law still showed "the activation function at work"."""
    text = caption(
        gradient_norm_by_step, make_study(grid(**PROPAGATION, activation=functions, sequence_length=9, seed=[0, 1]))
    )
    assert words in text and ("is at work" in text) == bool(words)


@pytest.mark.parametrize(("cells", "words"), [(["vanilla", "layer_norm"], True), (["vanilla", "gru"], False)])
def test_normalisation_is_a_reason_for_no_law(cells: list[str], words: bool, make_study: Any) -> None:
    """Of layer normalisation it was said that zero is no fixed point, or that tanh has a kink there."""
    runs = grid(**PROPAGATION, cell=cells, activation=["sigmoid"], sequence_length=9, seed=[0, 1])
    text = caption(gradient_norm_by_step, make_study(runs))
    assert "Where no line is dashed, there is no such law" in text
    assert ("or layer normalisation leads away from it" in text) == words


OTHER_BOUNDS = {"residual": "ln(1 − λ + η γ σ<sub>max</sub>)", "antisymmetric": "ln(1 + ε γ (2 σ<sub>max</sub> + δ))"}


@pytest.mark.parametrize("cell", ["vanilla", *OTHER_BOUNDS])
def test_the_upper_bound_is_that_of_the_cell(cell: str) -> None:
    """The caption gave the vanilla network's bound for every cell."""
    text = render("growth_rate", facts={"shown": ["bound", cell], "claims": []})
    assert "ln(γ σ<sub>max</sub>), limits a single step" in text
    assert {name for name, formula in OTHER_BOUNDS.items() if formula in text} == {cell} - {"vanilla"}


def test_a_cell_without_recurrent_weights_is_not_told_to_record_them(make_study: Any) -> None:
    tables = make_study(
        grid(
            **PROPAGATION,
            cell="mingru",
            initializer=None,
            spectral_radius=None,
            sequence_length=9,
            seed=0,
            weights=False,
        )
    )
    facts = weight_gradient_by_step.facts(weight_gradient_by_step.frame(tables), tables.study)
    assert not facts["drawn"] and "of a cell that has recurrent weights" in facts["claims"][0]


def test_sequences_that_end_where_they_end_have_no_loss_at_the_left(make_study: Any) -> None:
    """ "The loss is at the end, on the left", although most sequences of the file end before the longest does."""
    runs = grid(**PROPAGATION | {"task": "kinds"}, sequence_length=9, seed=[0, 1], ends=(0, 3, 5))
    text = caption(weight_gradient_by_step, make_study(runs))
    assert "Sequences end at steps of their own, and each has its loss there." in text and "on the left" not in text
    alone = make_study(grid(**PROPAGATION, sequence_length=9, seed=[0, 1]))
    assert "The loss is at the end, on the left." in caption(weight_gradient_by_step, alone)
