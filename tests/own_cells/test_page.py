"""What the page makes of cells of the user's own: their names, their order, and sentences without what nobody knows."""

from __future__ import annotations

import pandas as pd

from study.own_cells.described import ALONE, DIFFERENCES
from study.report.page_tables import check_summary
from study.report.reader import variants_as_cells
from study.report.sentences.checks import check_sentence
from study.report.words import name_of, named, ordered, plain


def test_a_variant_is_a_cell_of_its_own() -> None:
    runs = pd.DataFrame({"cell": ["gru", "mine", "mine"], "cell_options": [None, "n=4", "n=16"], "seed": [0, 0, 0]})
    found = variants_as_cells(runs)
    assert list(found["cell"]) == ["gru", "mine:n=4", "mine:n=16"]
    assert found["cell_options"].isna().all()
    assert list(runs["cell"]) == ["gru", "mine", "mine"]
    assert variants_as_cells(runs[:1]) is not None and list(variants_as_cells(runs[:1])["cell"]) == ["gru"]


def test_variants_stand_in_the_order_of_their_numbers() -> None:
    cells = ["b:n=16", "b:n=4", "gru", "b:n=-2.0", "a", "b:n=1e-05", "vanilla", "b:kind=slow"]
    expected = ["vanilla", "gru", "a", "b:kind=slow", "b:n=-2.0", "b:n=1e-05", "b:n=4", "b:n=16"]
    assert ordered("cell", cells) == expected


def test_names_read_as_words() -> None:
    assert named("cell", "mine:n=4") == "mine n=4"
    assert name_of({"cell": "mine:n=4", "hidden_size": 8}) == "mine n=4 (H = 8)"


def checks() -> pd.DataFrame:
    rows = {
        "stage": ["gate", "gate", "gate", "sweep"],
        "oracle": [DIFFERENCES, ALONE, "torch.autograd", "torch.autograd"],
        "dtype": "float64",
        "relative_error": [1e-7, 1e-11, 2e-15, 1e-15],
        "tolerance": [1e-5, 1e-10, 1e-10, 1e-10],
        "cell": ["mine", "mine", "mine", "vanilla"],
        "activation": [None, None, None, "tanh"],
        "spectral_radius": [None, None, None, 0.9],
        "sequence_length": 9,
        "where": "hidden, t = 3",
    }
    return pd.DataFrame(rows)


def test_what_is_asked_of_single_steps_is_no_error_of_the_engine() -> None:
    said = plain(check_sentence(checks()))
    assert said == "engine compared with PyTorch 2 times, worst relative error 2 × 10⁻¹⁵ in float64"


def test_a_cell_without_radius_has_none_on_the_page() -> None:
    worst = {(row["stage"], row["oracle"]): row["where"] for row in check_summary(checks())}
    assert worst["gate", "torch.autograd"] == "mine, T = 9: hidden, t = 3"
    assert worst["sweep", "torch.autograd"] == "tanh, ρ = 0.9, T = 9: hidden, t = 3"
