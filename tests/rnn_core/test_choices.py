"""Names that people bring from elsewhere: what each was probably meant to be."""

from __future__ import annotations

import pytest

from rnn_core.arrays import DEVICES, DTYPES
from rnn_core.choices import FIELD_ALIASES, VALUE_ALIASES, canonical, nearest, nearest_value, unknown
from rnn_core.clipping import RULES, parse_clipping
from rnn_core.experiment import axes
from rnn_core.losses import LOSSES
from rnn_core.tasks import GENERATED, PACKAGED


def allowed_of(field: str) -> tuple[str, ...]:
    others = {"device": DEVICES, "loss": tuple(LOSSES), "task": (*GENERATED, *PACKAGED)}
    return others.get(field) or axes()[field].choices


def test_every_alias_leads_to_what_exists_and_hides_no_name() -> None:
    fields = list(axes())
    for alias, field in FIELD_ALIASES.items():
        assert field in fields and alias not in fields and alias == canonical(alias)
    for field, aliases in VALUE_ALIASES.items():
        for alias, value in aliases.items():
            assert value in allowed_of(field) and alias not in allowed_of(field) and alias == canonical(alias), alias
            assert nearest_value(field, alias, allowed_of(field)) == value


@pytest.mark.parametrize(
    ("given", "field"),
    [
        *[("lr", "learning_rate"), ("epochs", "updates"), ("steps", "updates"), ("rho", "spectral_radius")],
        *[("radius", "spectral_radius"), ("T", "sequence_length"), ("seq_len", "sequence_length")],
        *[("length", "sequence_length"), ("hidden", "hidden_size"), ("units", "hidden_size"), ("H", "hidden_size")],
        *[("B", "batch_size"), ("batch", "batch_size"), ("act", "activation"), ("nonlinearity", "activation")],
        *[("clip", "clipping"), ("max_norm", "clipping"), ("grad_clip", "clipping"), ("opt", "optimizer")],
        *[("rnn", "cell"), ("model", "cell"), ("cell_type", "cell"), ("init", "initializer"), ("precision", "dtype")],
        *[("D", "input_size"), ("tbptt", "truncation"), ("activaton", "activation"), ("Hidden-Size", "hidden_size")],
        *[("learnig_rate", "learning_rate"), ("seqence_length", "sequence_length"), ("LR", "learning_rate")],
        *[("max_nrom", "clipping"), ("zzz", None), ("", None), (7, None)],
    ],
)
def test_a_field_is_found_by_its_alias_its_case_and_its_typing_error(given: object, field: str | None) -> None:
    assert nearest(given, axes(), FIELD_ALIASES) == field


@pytest.mark.parametrize(
    ("field", "given", "value"),
    [
        *[("activation", "ReLU", "relu"), ("activation", "Linear", "identity"), ("activation", "thanh", "tanh")],
        *[("optimizer", "SGD", "sgd"), ("optimizer", "Adam", "adam"), ("dtype", "double", "float64")],
        *[("dtype", "float", "float64"), ("dtype", "fp32", "float32"), ("dtype", 32, "float32")],
        *[
            ("device", "gpu", "cuda"),
            ("device", "GPU", "cuda"),
            ("cell", "Elman", "vanilla"),
            ("cell", "RNN", "vanilla"),
        ],
        *[("loss", "MSE", "squared_error"), ("loss", "ce", "softmax_cross_entropy"), ("loss_at", "end", "last")],
        *[("clipping", 1.0, "norm:1.0"), ("clipping", {"norm": 0.5}, "norm:0.5"), ("clipping", "norm", "norm:1.0")],
        *[("clipping", "NORM:2", "norm:2"), ("clipping", "vaule:0.1", "value:0.1"), ("clipping", False, "none")],
        *[("clipping", None, "none"), ("clipping", "5", "norm:5"), ("clipping", "norm: x", "norm:1.0")],
        *[("clipping", "norm 1", "norm:1.0"), ("clipping", "clip:3", "norm:3"), ("clipping", "zzz:1", None)],
        *[("clipping", {}, None), ("clipping", -1.0, None), ("activation", "zzz", None)],
    ],
)
def test_a_value_is_found_by_its_alias_its_case_and_its_typing_error(
    field: str, given: object, value: str | None
) -> None:
    rules = RULES if field == "clipping" else allowed_of(field)
    near = nearest_value(field, given, rules)
    assert near == value
    if field == "clipping" and near is not None:
        parse_clipping(near)  # what is proposed must work


def test_an_alias_never_proposes_what_is_not_allowed() -> None:
    assert nearest("gpu", ["cpu", "auto"], VALUE_ALIASES["device"]) is None
    assert nearest("lr", ["seed"], FIELD_ALIASES) is None
    assert nearest_value("clipping", None, ["norm"]) is None


def test_the_message_names_it() -> None:
    assert unknown("device", "gpu", DEVICES).endswith("allowed: cpu, cuda, auto. Did you mean 'cuda'?")
    assert unknown("dtype", "double", DTYPES).endswith("Did you mean 'float64'?")
