"""What a notebook user sees first: ``help``, ``repr`` and ``print`` of every public object, and errors of a wrong call."""

from __future__ import annotations

import doctest
import inspect
import pydoc
import re
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.choices import Registry

EXPERIMENT = rc.Experiment(cell="gru", hidden_size=4, sequence_length=6, batch_size=3)
PROBLEM = rc.prepare(EXPERIMENT)
EVALUATION = rc.evaluate(PROBLEM, PROBLEM.params, *PROBLEM.batch(0))
CELLS = [kind("relu") for kind in rc.CELLS.values()]
# One object of every public class; Cell is abstract.
OBJECTS: dict[str, Any] = {
    "Activation": rc.activation("gelu"),
    "Adam": rc.Adam(0.001),
    "AdamW": rc.AdamW(0.001, weight_decay=0.01),
    "Clipped": rc.parse_clipping("norm:0.1")(EVALUATION.param_grads),
    "Clipping": rc.parse_clipping("norm:0.1"),
    "EntryQuantiles": EVALUATION.gradients.entry_quantiles,
    "Experiment": EXPERIMENT,
    "Flossing": rc.flossing_loss(
        rc.VanillaCell(), rc.VanillaCell().init_params(np.random.default_rng(0), 2, 4), np.ones((5, 3, 2))
    ),
    "Gradients": EVALUATION.gradients,
    "Momentum": rc.Momentum(0.01),
    "NotKept": rc.NotKept("hidden"),
    "InputTrace": rc.probe(torch.nn.GRU(2, 3), torch.ones(9, 2, 2), whole_sequence=True),
    "Probe": rc.probe(torch.nn.GRUCell(2, 3), torch.ones(9, 2, 2), exponents=1),
    "Problem": PROBLEM,
    "Result": rc.run(EXPERIMENT),
    "SGD": rc.SGD(0.1),
    "Scaled": rc.Scaled(np.ones((50, 60)), np.array(-2000)),
    "Sequences": rc.Sequences(np.zeros((9, 5, 2)), np.arange(9) % 3, np.arange(9) < 2, "softmax_cross_entropy", "last"),
    "Tape": EVALUATION.tape,
    "WeightShares": EVALUATION.gradients.weight_shares,
    "TorchCell": rc.TorchCell(torch.nn.GRUCell(2, 3)),
    **{type(cell).__name__: cell for cell in CELLS},
}
PUBLIC = {name: getattr(rc, name) for name in rc.__all__}


def test_every_public_class_is_shown_below() -> None:
    """A class is public, and no test looks at what it shows."""
    classes = {name for name, value in PUBLIC.items() if isinstance(value, type) and not inspect.isabstract(value)}
    assert classes == set(OBJECTS)


@pytest.mark.parametrize("name", [*OBJECTS, *(n for n, value in PUBLIC.items() if isinstance(value, Registry))])
def test_an_object_shows_what_it_is(name: str) -> None:
    """A notebook shows an address in memory, or a page of numbers."""
    text = repr(OBJECTS.get(name, PUBLIC[name]))
    assert not re.search(r" at 0x[0-9a-f]+", text), text
    assert 0 < len(text) <= (600 if name == "Probe" else 300), text  # a probe's text is what it is for
    named = OBJECTS[name].name if name == "Activation" else name
    assert named in text or isinstance(PUBLIC[name], Registry), text


@pytest.mark.parametrize("name", rc.__all__)
def test_every_public_name_is_documented_and_in_the_help(name: str) -> None:
    """``help`` of a name is empty, or ``help(rc)`` does not say what it is for."""
    text = inspect.getdoc(PUBLIC[name])
    assert text and len(text) > 20, name
    assert not text.startswith(("dict(", f"{name}(")), f"{name}: Python's own words"
    if PUBLIC[name] not in rc.CELLS.values():  # a new cell has its place in CELLS
        assert f"``{name}``" in (rc.__doc__ or ""), name


@pytest.mark.parametrize(
    "name", ["Activation", "Cell", "Clipping", "Experiment", "Problem", "Result", "Sequences", "Tape"]
)
def test_every_public_method_is_documented(name: str) -> None:
    """``help`` of a method is empty."""
    for member_name, member in inspect.getmembers(PUBLIC[name]):
        own = not member_name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
        assert not own or inspect.getdoc(member), f"{name}.{member_name}"


def test_the_examples_of_the_help_run() -> None:
    """``help(rc)`` shows a program that does not run, or other results."""
    result = doctest.testmod(rc)
    assert result.failed == 0 and result.attempted >= 8


def test_the_help_begins_with_what_the_package_is() -> None:
    """``help(rc)`` begins with lists of files, or does not say where the derivation is."""
    text = pydoc.render_doc(rc, renderer=pydoc.plaintext)
    assert text.index("Gradients of recurrent networks") < text.index("PACKAGE CONTENTS")
    assert "README.md" in (rc.__doc__ or "")
    for registry in ("ACTIVATIONS", "CELLS", "OPTIMIZERS"):
        assert registry in text


@pytest.mark.parametrize(
    "value",
    [
        *CELLS,
        rc.Experiment(),
        rc.Experiment(cell="residual", residual_step=0.5, clipping="norm:1", seed=3),
        rc.SGD(0.5),
        rc.Momentum(0.5, 0.8),
        rc.Adam(0.5, beta1=0.8),
    ],
    ids=repr,
)
def test_what_is_shown_makes_it_again(value: Any) -> None:
    """A line that is copied from the screen makes something else."""
    again = eval(repr(value), dict(PUBLIC))
    assert repr(again) == repr(value)
    assert {k: v for k, v in vars(again).items() if k != "phi"} == {k: v for k, v in vars(value).items() if k != "phi"}


def test_an_experiment_shows_what_is_not_a_default() -> None:
    """21 fields hide the one that was set."""
    assert repr(rc.Experiment()) == "Experiment()"
    assert repr(rc.Experiment(seed=0, cell="gru", learning_rate=0.5)) == "Experiment(cell='gru', learning_rate=0.5)"


def test_the_signature_of_an_experiment_shows_fields_and_defaults() -> None:
    """``help(rc.Experiment)`` shows the wrapper of its checks, or annotations as quoted text."""
    head = pydoc.render_doc(rc.Experiment, renderer=pydoc.plaintext).splitlines()[3]
    assert head.lstrip(" |").startswith("Experiment(task='white_noise', cell='vanilla', activation='tanh', ")
    assert head.endswith("dtype='float64', seed=0)")


# ---- calls that cannot work --------------------------------------------------------------------------------------------

MANY = r"run_many takes several Experiments, and "
WRONG_CALLS: list[tuple[Any, str]] = [
    (lambda: rc.run({"cell": "gru", "lr": 0.5}), r"run takes an Experiment, and was given a dict: write rc\.run\(rc\.Experiment\(cell='gru', learning_rate=0\.5\)\)\. An Experiment has no field 'lr'\."),
    (lambda: rc.run(cell="gru"), r"run takes an Experiment, and was given the settings cell: write rc\.run\(rc\.Experiment\(cell='gru'\)\)"),
    (lambda: rc.run(rc.Experiment(), seed=3), r"was given the settings seed beside it: write rc\.run\(rc\.Experiment\(seed=3\)\)"),
    (lambda: rc.run(rc.Experiment), r"was given the class Experiment: write rc\.run\(rc\.Experiment\(\)\)"),
    (lambda: rc.run(), r"was given nothing: write rc\.run\(rc\.Experiment\(\)\)"),
    (lambda: rc.run(None), r"run takes an Experiment, and was given None"),
    (lambda: rc.run([rc.Experiment()]), r"run takes an Experiment, and was given a list"),
    (lambda: rc.run("gru"), r"run takes an Experiment, and was given a str"),
    (lambda: rc.prepare({"cell": "gru"}), r"prepare takes an Experiment, and was given a dict: write rc\.prepare\(rc\.Experiment\(cell='gru'\)\)"),
    (lambda: rc.prepare(hidden_size=3), r"prepare takes an Experiment, and was given the settings hidden_size"),
    (lambda: rc.prepare(np.zeros((2, 3))), r"prepare takes an Experiment, and was given an array \(2, 3\)"),
    (lambda: rc.run(rc.Experiment(), {"mine": 3}), r"data: a dict is not allowed; it must be sequences"),
    (lambda: rc.prepare(rc.Experiment(), np.zeros(3)), r"data: an array \(3,\) is not allowed; it must be sequences"),
    (lambda: rc.run(rc.Experiment(), watch=3), r"watch: an int is not allowed; it must be a function of \(problem, params"),
    (lambda: rc.run_many(rc.Experiment()), MANY + r"was given an Experiment: write rc\.run_many\(\[rc\.Experiment\(\), …\]\)"),
    (lambda: rc.run_many(3), MANY + r"was given an int"),
    (lambda: rc.run_many({"cell": "gru"}), MANY + r"was given a dict"),
    (lambda: rc.run_many([rc.Experiment(), {}]), MANY + r"one of them is a dict"),
    (lambda: rc.run_many([rc.Experiment()], OBJECTS["Sequences"]), r"data: a Sequences is not allowed; it must be a dict from a task's name"),
    (lambda: rc.run_many([rc.Experiment()], {"mine": 3}), r"data: an int is not allowed; it must be sequences"),
    (lambda: rc.evaluate(EXPERIMENT, {}, 0, 0), r"problem: an Experiment is not allowed; it must be rc\.prepare\(experiment\)"),
    (lambda: rc.evaluate(PROBLEM, PROBLEM.params["weight_hh"], *PROBLEM.batch(0)), r"params: an array \(12, 4\) is not allowed; it must be a dict, such as problem\.params"),
    (lambda: rc.evaluate(PROBLEM, PROBLEM.params, PROBLEM.batch(0)[0], [1.0]), r"target: a list is not allowed; it must be an array, as problem\.batch\(0\) gives it"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), WRONG_CALLS, ids=[message[:60] for _, message in WRONG_CALLS])
def test_a_wrong_call_says_what_to_write(call: Any, message: str) -> None:
    """Python's own words come from deep inside, and name nothing that the user wrote."""
    with pytest.raises(TypeError, match=message):
        call()


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in PROBLEM.params.items() if key != name}


X, TARGET = PROBLEM.batch(0)
WRONG_ARRAYS: list[tuple[Any, str]] = [
    (lambda: rc.evaluate(PROBLEM, PROBLEM.params, X[0], TARGET), r"x: shape \(3, 8\) is not allowed; it must be \(T, B, D\)"),
    (lambda: rc.evaluate(PROBLEM, PROBLEM.params, X.tolist(), TARGET), r"x: list is not allowed; it must be a NumPy array or a torch tensor"),
    (lambda: rc.evaluate(PROBLEM, PROBLEM.params, np.ma.masked_greater(X, 0.0), TARGET), r"x: [0-9]+ of 144 values are masked, and a NumPy mask is not read"),
    (lambda: rc.evaluate(PROBLEM, PROBLEM.params, X[..., :2], TARGET), r"x: shape \(6, 3, 2\) does not fit; expected \(6, 3, 8\)"),
    (lambda: rc.evaluate(PROBLEM, PROBLEM.params, X, TARGET[:2]), r"target: shape \(2, 1\) does not fit; expected \(3, 1\) for squared_error at last and x \(6, 3, 8\)"),
    (lambda: rc.evaluate(PROBLEM, PROBLEM.params, X, np.zeros((3, 1), int)), r"target: dtype int64 is not allowed; squared_error needs numbers in float64"),
    (lambda: rc.evaluate(PROBLEM, without("weight_ho"), X, TARGET), r"params: weight_ho is missing; the readout needs it, with shape \(1, 4\)"),
    (lambda: rc.evaluate(PROBLEM, PROBLEM.params | {"bias_ho": np.zeros(3)}, X, TARGET), r"bias_ho: shape \(3,\) does not fit; expected \(1,\)"),
    (lambda: rc.evaluate(PROBLEM, PROBLEM.params | {"weight_ho": [[1.0] * 4]}, X, TARGET), r"weight_ho: list is not allowed"),
    (lambda: rc.run(rc.Experiment(), device="gpu"), r"device: 'gpu' is not allowed; it must be cpu or cuda\. Did you mean 'cuda'\?"),
    (lambda: rc.prepare(rc.Experiment(), device=0), r"device: 0 is not allowed; it must be cpu or cuda"),
    (lambda: rc.run(rc.Experiment(), memory_budget="1 GB"), r"memory_budget: '1 GB' is not allowed; it must be a number of bytes"),
    (lambda: rc.Experiment(spectral_radius=10**400), r"spectral_radius: 1000.* is not allowed; it must be a number above 0"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), WRONG_ARRAYS, ids=[message[:60] for _, message in WRONG_ARRAYS])
def test_a_wrong_array_is_named_with_what_was_expected(call: Any, message: str) -> None:
    """NumPy's own words come from deep inside, and name nothing that the user wrote."""
    with pytest.raises(ValueError, match=message):
        call()
