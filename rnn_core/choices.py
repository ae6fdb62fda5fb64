"""Looking a name up in a registry, with an error that says what would have worked.

People bring the names that other libraries use. ``FIELD_ALIASES`` and ``VALUE_ALIASES`` hold them in one place. An alias is
never accepted, but the error names what was meant. ``ARRAY_ALIASES`` has those of parameters and states.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, ParamSpec, TypeVar

Entry = TypeVar("Entry")
Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


def _by_alias(names: Mapping[str, str]) -> dict[str, str]:
    """Alias -> name, from name -> its aliases with blanks between."""
    return {alias: name for name, aliases in names.items() for alias in aliases.split()}


# What other libraries and papers call a field of ``Experiment``, in the form that ``canonical`` returns.
FIELD_ALIASES: dict[str, str] = _by_alias(
    {
        "activation": "act nonlinearity act_fn activation_function activation_fn phi",
        "batch_size": "b batch bs batchsize minibatch minibatch_size num_sequences",
        "bidirectional": "bidir bi_directional birnn directions num_directions both_directions",
        "cell": "rnn model cell_type architecture arch rnn_type layer network",
        "clipping": "clip max_norm grad_clip clip_norm gradient_clipping grad_norm clip_grad clip_grad_norm clip_value",
        "dtype": "precision floatx data_type",
        "chrono": "chrono_init t_max tmax",
        "flossing": "gradient_flossing floss preflossing",
        "forget_bias": "forget_gate_bias bias_f unit_forget_bias update_bias",
        "hidden_size": "h hidden units num_units n_hidden width hidden_dim hidden_units dim size num_hidden",
        "initializer": "init initialization initialiser weight_init initialisation recurrent_initializer",
        "input_scale": "input_std sigma_u input_gain",
        "input_size": "d inputs num_inputs n_inputs input_dim features num_features n_features",
        "layers": "num_layers n_layers depth layer_count stack stacked_layers",
        "learning_rate": "lr eta alpha step_size",
        "loss_at": "loss_steps loss_position target_at return_sequences",
        "omega": "omega_regularizer regularizer regulariser",
        "optimizer": "opt optim optimiser",
        "residual_leak": "leak leak_rate",
        "residual_step": "step residual_eta",
        "seed": "random_seed random_state rng",
        "sequence_length": "t seq_len length seqlen seq_length timesteps time_steps num_steps horizon",
        "spectral_radius": "rho radius spectral gain eigenvalue",
        "task": "dataset data problem",
        "trace_every": "log_every trace_interval log_interval",
        "validate_every": "eval_every test_every validation_interval eval_interval",
        "truncation": "tbptt truncate bptt k window truncated_bptt",
        "weight_decay": "wd l2 decay l2_penalty",
        "weight_scale": "scale sigma_w weight_std variance recurrent_scale",
        "updates": "epochs steps iterations num_updates iters n_iter epoch n_epochs max_steps train_steps",
    }
)

# The same for the values of a field or key.
VALUE_ALIASES: dict[str, dict[str, str]] = {
    field: _by_alias(values)
    for field, values in {
        "activation": {
            "hard_tanh": "hardtanh",
            "identity": "linear none id lin",
            "leaky_relu": "lrelu leakyrelu leaky",
            "relu": "rectifier rectified_linear ramp",
            "sigmoid": "logistic sig sigma",
            "silu": "swish",
            "softplus": "smooth_relu",
            "tanh": "hyperbolic_tangent th",
        },
        "cell": {
            "antisymmetric": "antisymmetric_rnn antisymmetricrnn",
            "indrnn": "ind_rnn independent independent_rnn",
            "lru": "linear_recurrent_unit s4d s5 ssm",
            "residual": "resnet leaky leaky_rnn esn",
            "mingru": "min_gru minimal_gru",
            "layer_norm": "layernorm ln ln_rnn layer_normalization layer_normalisation",
            "slstm": "xlstm s_lstm",
            "vanilla": "elman rnn simple simple_rnn srn basic plain",
        },
        "device": {"cuda": "gpu nvidia cuda:0 gpu:0", "cpu": "host"},
        "dtype": {
            "float32": "fp32 f32 single 32 float_32 torch.float32 np.float32",
            "float64": "float double fp64 f64 64 float_64 torch.float64 np.float64",
        },
        "initializer": {
            "antisymmetric": "skew skew_symmetric antisym",
            "gaussian": "normal randn random xavier_normal glorot_normal ginibre",
            "glorot": "xavier xavier_uniform glorot_uniform uniform",
            "identity": "eye irnn",
            "orthogonal": "ortho qr haar unitary",
            "ring": "lru rotation rotations",
            "sparse": "martens sparse_init",
        },
        "loss": {
            "softmax_cross_entropy": "cross_entropy ce crossentropy nll softmax categorical_crossentropy classification",
            "squared_error": "mse l2 mean_squared_error quadratic regression",
        },
        "loss_at": {
            "every": "all each every_step all_steps true",
            "last": "end final last_step final_step false",
        },
        "optimizer": {"adamw": "adam_w", "momentum": "sgd_momentum heavy_ball", "sgd": "gd gradient_descent"},
        "task": {
            "adding": "add addition adding_problem sum",
            "copy_memory": "copy copying memory copying_memory",
            "digits": "mnist digit smnist",
            "input_mean": "mean",
            "multiplication": "multiply product",
            "permuted_digits": "psmnist pmnist permuted_mnist",
            "temporal_order": "order temporal",
            "white_noise": "noise random gaussian",
        },
    }.items()
}

# What other libraries and papers call a parameter, or a part of a state.
ARRAY_ALIASES: dict[str, str] = _by_alias(
    {
        "weight_hh": "w_hh whh w_rec w recurrent_kernel weight_hh_l0",
        "weight_ih": "w_ih wih w_xh wxh w_in kernel weight_ih_l0",
        "bias_hh": "b_hh bhh bias_hh_l0",
        "bias_ih": "b_ih bih b bias b_h bias_ih_l0",
        "weight_ho": "w_ho who w_hy why w_out",
        "bias_ho": "b_ho b_y b_o b_out",
        "hidden": "h h_t h_0 h0 hx",
        "cell": "c c_t c_0 c0 cx",
    }
)


def canonical(name: object) -> str:
    """A name in the form in which names are compared: lower case, with ``_`` for blanks and hyphens."""
    return str(name).strip().lower().replace("-", "_").replace(" ", "_")


def nearest(name: object, allowed: Iterable[str], aliases: Mapping[str, str] | None = None) -> str | None:
    """The name of ``allowed`` that ``name`` was probably meant to be; None where none is near.

    It is, in this order: the same name but for case, blanks and hyphens; the name of an alias; a name or an alias with a
    similar spelling.

    Args:
        aliases: {alias, as ``canonical`` writes it: name}. Those of names that are not ``allowed`` do not count.
    """
    names: dict[str, str] = {}
    for each in allowed:
        names.setdefault(canonical(each), each)
    meant = {alias: names[canonical(target)] for alias, target in (aliases or {}).items() if canonical(target) in names}
    known = {**meant, **names}
    given = canonical(name)
    if given in known or given in (
        aliases or {}
    ):  # an alias of what is not allowed is no typing error of something else
        return known.get(given)
    near = get_close_matches(given, names, n=1) or get_close_matches(
        given, [a for a in meant if len(a) > 2], n=1, cutoff=0.75
    )
    return known[near[0]] if near else None


def nearest_value(field: str, given: object, allowed: Iterable[str]) -> str | None:
    """The value of ``field`` that ``given`` was probably meant to be; None where none is near.

    ``clipping`` is more than a name: 1.0 and {"norm": 1.0} mean ``norm:1.0``, None and False mean ``none``.

    Args:
        allowed: the names that the field takes; for ``clipping`` its rules.
    """
    names = list(allowed)
    if field == "clipping":
        return _nearest_clipping(given, names)
    aliases = ARRAY_ALIASES if field in ("params", "state", "states", "grad_state") else VALUE_ALIASES.get(field)
    return nearest(given, names, aliases)


def _nearest_clipping(given: Any, rules: list[str]) -> str | None:
    if given is None or given is False or canonical(given) in ("off", "no", "null", "false"):
        return "none" if "none" in rules else None
    if isinstance(given, Mapping) and len(given) == 1:
        [(rule, threshold)] = given.items()
    else:
        rule, _, threshold = str(given).partition(":")
        if _is_above_zero(rule):  # a threshold alone
            rule, threshold = "norm", rule
    near = nearest(
        rule, rules, {"clip": "norm", "global_norm": "norm", "clip_by_norm": "norm", "clip_by_value": "value"}
    )
    if near is None or near == "none":
        return near
    return f"{near}:{str(threshold).strip() if _is_above_zero(threshold) else '1.0'}"


def _is_above_zero(threshold: object) -> bool:
    try:
        return 0.0 < float(str(threshold)) < float("inf")
    except ValueError:
        return False


def unknown(kind: str, given: object, allowed: Iterable[str]) -> str:
    """The message for a name that does not exist: what was given, what is allowed, the nearest valid name."""
    names = list(allowed)
    near = nearest_value(kind, given, names)
    hint = f" Did you mean {near!r}?" if near else ""
    return f"{kind}: {given!r} is not known; allowed: {', '.join(names)}.{hint}"


class Registry(dict[str, Entry]):
    """What there is to choose from, by name: a dict that shows its names."""

    def __init__(self, kind: str, entries: Mapping[str, Entry]) -> None:
        super().__init__(entries)
        self.kind = kind

    def __repr__(self) -> str:
        return f"Registry of {self.kind}: {', '.join(self)}"


def hints_at_arguments(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Name the argument that was probably meant where ``function`` is given one that it does not have."""
    own = [name for name in inspect.signature(function).parameters if name != "self"]

    @functools.wraps(function)
    def checked(*args: Arguments.args, **named: Arguments.kwargs) -> Returned:
        for name in named:
            if name not in own:
                near = nearest(name, own, FIELD_ALIASES)
                hint = f" Did you mean {near!r}?" if near else ""
                raise TypeError(f"{function.__name__} has no argument {name!r}; it has {', '.join(own)}.{hint}")
        return function(*args, **named)

    return checked


class ByName(dict[str, Entry]):
    """Arrays by name: a dict that says which name was probably meant where it has none such."""

    def __missing__(self, name: object) -> Entry:
        raise no_such_name(name, self)


def no_such_attribute(owner: str, name: str, places: Mapping[str, Iterable[str]]) -> AttributeError:
    """The error for an attribute that is not there: the nearest name, with the place where it is.

    Args:
        places: how a name is written that is there, with {} for it, and those names: {"params[{!r}]": ["weight_hh"]}.
    """
    if not name.startswith("_"):  # what Python itself asks for
        for written, names in places.items():
            if near := nearest(name, names, ARRAY_ALIASES):
                return AttributeError(f"{owner} has no attribute {name!r}; did you mean {written.format(near)}?")
    return AttributeError(f"{owner} has no attribute {name!r}")


def no_such_name(name: object, names: Iterable[str]) -> KeyError:
    """The error for an array that is not there: the names that are, and the nearest one."""
    there = list(names)
    near = nearest(name, there, ARRAY_ALIASES)
    hint = f"; did you mean {near!r}?" if near else ""
    return KeyError(f"{name!r} is not there{hint} (the names are {', '.join(there) or 'none'})")


def choose(kind: str, name: str, registry: Mapping[str, Entry]) -> Entry:
    """``registry[name]``.

    Raises:
        ValueError: naming ``kind``, the name given, those allowed and the nearest one.
    """
    if not isinstance(name, str) or name not in registry:
        raise ValueError(unknown(kind, name, registry))
    return registry[name]
