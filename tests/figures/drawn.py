"""What the tests of figures share: settings of synthetic runs, and a figure's artists and caption."""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import docutils.core
import docutils.utils
import jinja2
from matplotlib.axes import Axes

from rnn_core.experiment.measures.sensitivity import SENSITIVITY
from rnn_core.experiment.measures.traces import QUANTILES
from study.report import drawing, page, reader, style, words
from study.settings import axis_defaults, steps_of
from study.tables import store
from study.tables.columns import FORMATS, TABLES, THEORY, columns_of

CAPTIONS = Path(__file__).parents[2] / "workflow" / "scripts" / "figures"
Settings = dict[str, Any]
PROPAGATION = {"task": "white_noise", "loss_at": "last", "updates": 0, "clipping": "none"}
TRAINING = {
    "task": "digits",
    "loss_at": "last",
    "updates": 8,
    "sequence_length": 6,
    "clipping": "none",
    "learning_rate": 0.3,
}


def grid(**axes: Any) -> list[Settings]:
    """Every combination; a list is an axis, anything else one value."""
    values = [value if isinstance(value, list) else [value] for value in axes.values()]
    return [dict(zip(axes, combination, strict=True)) for combination in itertools.product(*values)]


def show(module: ModuleType, tables: reader.Tables) -> tuple[Any, drawing.Facts, list[Axes]]:
    """Frame, facts and the axes of a figure."""
    data = module.frame(tables)
    with style.theme():
        figure = module.draw(data)
        figure.draw_without_rendering()
    return data, module.facts(data, tables.study), figure.axes


def lines(axes: Axes, gid: str) -> list[Any]:
    return [line for line in axes.lines if line.get_gid() == gid]


def render(figure: str, **variables: Any) -> str:
    """A caption's HTML; a problem in the RST is an error."""
    source = (CAPTIONS / f"{figure}.rst").read_text(encoding="utf-8")
    template = jinja2.Template(source, undefined=jinja2.StrictUndefined)
    text = template.render(**page.OF_THE_ENGINE, **variables)
    settings = {"halt_level": docutils.utils.Reporter.INFO_LEVEL, "report_level": docutils.utils.Reporter.SEVERE_LEVEL}
    html = docutils.core.publish_parts(text, writer="html5", settings_overrides=settings)["body"]
    assert "System Message" not in html and "problematic" not in html and "{" not in html
    return str(html)


LN10 = math.log(10.0)


def radius_of(run: Settings) -> float:
    """The spectral radius of a synthetic run; of a matrix as drawn 1."""
    return run["spectral_radius"] or 1.0


def rate_of(run: Settings) -> float:
    """The growth rate that a synthetic run has: ln ρ, less one for sigmoid, and a hundredth for every seed."""
    return math.log(radius_of(run)) - (run["activation"] == "sigmoid") + 0.01 * run["seed"]


def one_step(run: Settings, radius: float) -> float | None:
    """ln of what one linear step back makes of a gradient along a direction with this factor; None of a gated cell."""
    if run["cell"] not in ("vanilla", "residual"):
        return None
    residual = run["cell"] == "residual"
    step, leak = (run["residual_step"] or 1.0, run["residual_leak"] or 0.0) if residual else (1.0, 1.0)
    return math.log(1 - leak + step * radius)


def weight_parts(run: Settings, rate: float) -> list[tuple[float, float]]:
    """log10 ‖G_t‖ and cosine of every step by lag, as a synthetic run has them: a tenth of its growth, and signs that the seed decides."""
    steps = steps_of(run["task"], run["sequence_length"])
    if math.isnan(rate):
        return [(math.nan, math.nan)] * steps
    parts = []
    for lag in range(steps):
        norm = -2.0 + (0.1 * rate * lag if lag else 0.0)
        cosine = math.nan if norm == -math.inf else -0.2 if (lag + run["seed"]) % 4 == 3 else 0.7 - 0.01 * (lag % 5)
        parts.append((norm, cosine))
    return parts


def weight_row(parts: list[tuple[float, float]]) -> Settings:
    """What ``runs`` says of them."""
    names = ("weight_grad_steps", "weight_grad_lag", "weight_grad_against")
    along = [cosine * 10.0**norm for norm, cosine in parts if not math.isnan(cosine)]
    if not along or sum(along) <= 0.0:
        return dict.fromkeys(names)
    sums = [list(itertools.accumulate(each)) for each in (sorted(along, reverse=True), along)]
    steps, lag = (next(i for i, total in enumerate(each) if total >= 0.5 * sum(along) * (1 - 1e-12)) for each in sums)
    return dict(zip(names, (steps + 1, lag, -sum(a for a in along if a < 0) / sum(map(abs, along))), strict=True))


def at_rest(run: Settings, radius: float) -> float | None:
    """The same at rest: of a gated cell it turns at 2; None where rest is no fixed point, or phi has a kink."""
    if run["activation"] not in ("tanh", "identity", "softsign"):
        return None
    linear = one_step(run, radius)
    return math.log(0.5 + 0.25 * radius) if linear is None else linear


def entry_row(norm: float, asked: bool) -> Settings:
    """Quantiles of a synthetic gradient's entries, a binary digit apart, as its norm has them."""
    return {name: norm / math.log10(2.0) + i - 3 if asked else None for i, name in enumerate(QUANTILES)}


def critical_radius(run: Settings, predicted: bool) -> float | None:
    """Of a gated network by the law at rest, seed by seed; of a vanilla one by mean field, of the identity by the linear law."""
    if run["cell"] in ("vanilla", "residual"):
        return {"identity": 1.0, "sigmoid": math.inf}.get(run["activation"], 1.2) if predicted else None
    return None if at_rest(run, 1.0) is None else 2.0 + 0.03 * run["seed"]


def make_run(given: Settings, found: dict[str, dict[str, list[Any]]]) -> None:
    """Append one run to all tables.

    Keys that are not settings: ends (the lags that carry a loss, of a batch of sequences that end there), rate, predicted, breaks_at, norm, weights (False: nobody asked which steps write), accuracy (None: a regression), held_out_loss, sweep, and what formats lose.
    """
    run = axis_defaults() | {"loss_at": "last", "input_size": 1}
    run |= {name: value for name, value in given.items() if name in run}
    T, asked = steps_of(run["task"], run["sequence_length"]), given.get("weights", True)
    rate = given.get("rate", rate_of(run)) if T > 1 else math.nan
    common = {"sweep": given.get("sweep", "one"), "run_key": "|".join(map(str, run.values()))}
    parts = weight_parts(run, rate) if asked else [(math.nan, math.nan)] * T
    row = common | run | start_row(run, rate) | theory_row(run, given, rate) | training_row(run, given)
    row |= weight_row(parts) | {"dead_samples": given.get("dead_samples", float(rate == -math.inf))}
    row |= {f"{f}_{what}_at": given.get(f"{f}_{what}_at") for f in FORMATS for what in ("flushed", "overflowed")}
    row |= {
        name: given[name]
        for name in ("settled_from", "settled_to", *(column.name for column in SENSITIVITY))
        if name in given
    }
    row |= {"data": "d" if "ends" in given else None, "device": "cpu", "engine": "synthetic", "verified_error": None}
    if given.get("spectra"):
        row |= make_spectra(common, T, rate, given, found["spectra"])
    extend(found["runs"], row)
    extend(found["timings"], common | {"seconds": 0.1, "verify_seconds": None})
    for t in range(1, T + 1):
        extend(found["traces"], common | trace_row(t, T, rate, given, parts[T - t]))
    if "layers" in found:
        for layer, reverse in itertools.product(range(1, run["layers"] + 1), range(1 + run["bidirectional"])):
            make_layer(common, T, rate, layer - run["layers"], given, found["layers"], layer, bool(reverse))
    for update in range(given.get("ends_at") or max(1, run["updates"])):
        extend(found["updates"], common | update_row(run, given, update))
        if update == given.get("breaks_at"):
            break


def start_row(run: Settings, rate: float) -> Settings:
    """What ``runs`` says of a run's task and of its network before training."""
    T, radius = steps_of(run["task"], run["sequence_length"]), radius_of(run)
    ratio = rate * (T - 1) / LN10 if T > 1 else 0.0
    return {
        "task_input_size": 1, "task_loss_at": run["loss_at"] or "last", "task_steps": T,
        "measured_spectral_radius": radius, "sigma_max": 2 * radius, "sigma_w": 0.95 * radius, "sigma_u": run["input_scale"],
        "log10_gradient_ratio": ratio, "growth_rate": rate, "growth_rate_error": 0.005 if T > 5 else None,
        "regime": None if math.isnan(ratio) or T == 1 else "vanishing" if ratio < -2 else "exploding" if ratio > 2 else "stable",
        "settled_from": min(3, T) if T > 1 else None, "settled_to": max(1, T - 3) if T > 1 else None,
    }  # fmt: skip


def theory_row(run: Settings, given: Settings, rate: float) -> Settings:
    """What theories say of it: mean field and operating point of a vanilla network, and what ``given`` says of dynamic mean field."""
    predicted = run["initializer"] != "identity" and run["cell"] == "vanilla"
    prediction = given.get("predicted", rate_of(run | {"seed": 0}) - 0.02) if predicted else None
    by = "operating point" if predicted else None
    mean_field = {
        "mean_field_rate": prediction, "operating_rate": prediction, "slope_fluctuation": 0.01, "bistable": False, "mean_field_q": 0.1,
        "chi": math.exp(2 * prediction) if prediction is not None else None, "correlation": given.get("correlation", 1.0), "depth_scale": given.get("depth_scale", 5.0),
    }  # fmt: skip
    if prediction is None and given.get("dynamic") is not None:
        prediction, by = given["dynamic"], "dynamic mean field"
    return {
        **(mean_field if predicted else dict.fromkeys(mean_field)),
        "linear_rate": one_step(run, radius_of(run)), "bound_rate": one_step(run, 2 * radius_of(run)),
        "rest_rate": at_rest(run, radius_of(run)), "critical_radius_predicted": given.get("critical", critical_radius(run, predicted)),
        "dynamic_rate": given.get("dynamic"), "predicted_rate": prediction, "predicted_by": by,
        "deviation": None if prediction is None else rate - prediction,
    }  # fmt: skip


def training_row(run: Settings, given: Settings) -> Settings:
    """What ``runs`` says of its training."""
    trains, broken, accuracy = run["updates"] > 0, given.get("breaks_at"), given.get("accuracy", 0.7)
    ended = trains and broken is None
    return {
        "baseline_loss": given.get("baseline_loss", 2.3) if trains else None,
        "baseline_accuracy": given.get("baseline_accuracy", 0.1) if trains and accuracy is not None else None,
        "held_out_loss": given.get("held_out_loss", 0.5) if ended else None, "held_out_accuracy": accuracy if ended else None,
        "held_out_error": None, "success": given.get("success"), "updates_to_success": given.get("updates_to_success"),
        "solved": False if trains else None, "first_nonfinite_update": broken, "first_nonfinite_step": None,
    }  # fmt: skip


def trace_row(t: int, T: int, rate: float, given: Settings, part: tuple[float, float]) -> Settings:
    """One step of ``traces``."""
    lag, ends = T - t, given.get("ends", (0,))
    norm = -1.0 + (rate * lag / LN10 if lag else 0.0) if lag >= min(ends) else -math.inf
    return {
        "update": 0, "t": t, "lag": lag, "log10_grad_norm": norm, "log10_immediate_norm": -1.0 if lag in ends else -math.inf,
        "hidden_rms": 0.5, "saturation": 0.0, "log10_cell_grad_norm": None, **entry_row(norm, given.get("weights", True)),
        "log10_weight_grad_norm": part[0], "weight_grad_cosine": part[1],
        **{f"{f}_{what}": 0.0 for f in FORMATS for what in ("flushed", "overflowed")},
    }  # fmt: skip


def update_row(run: Settings, given: Settings, update: int) -> Settings:
    """One row of ``updates``; at ``breaks_at`` nothing is finite."""
    breaks = update == given.get("breaks_at")
    norm = math.nan if breaks else given.get("norm", 0.5 + 0.1 * run["seed"])
    limit = math.log10(words.threshold(run["clipping"]) or math.inf) if ":" in run["clipping"] else math.inf
    return {
        "update": update, "loss": math.nan if breaks else 2.0 / (1 + update), "accuracy": given.get("accuracy", 0.5),
        "log10_norm_before": norm, "log10_norm_after": norm if math.isnan(norm) else min(norm, limit),
        "clip_factor": math.nan if breaks else 1.0, "truncation_bias": 0.25 if run["truncation"] else None,
        "held_out_error": None, "finite": not breaks,
    }  # fmt: skip


def make_layer(
    common: Settings,
    T: int,
    rate: float,
    up: int,
    given: Settings,
    found: dict[str, list[Any]],
    layer: int,
    reverse: bool = False,
) -> None:
    """Append the rows of one layer: ``depth`` decades are lost a layer down, and a step back is slower there by ``slower`` decades.

    In the reverse direction a layer loses twice as many, and its steps count from the first.
    """
    depth, slower = given.get("depth", -0.3) * (1 + reverse), given.get("slower", 0.0)
    for t in range(1, T + 1):
        lag = t - 1 if reverse else T - t
        norm = -1.0 + (rate * lag / LN10 if lag else 0.0) - up * (depth + slower * lag)
        extend(found, common | {"update": 0, "layer": layer, "direction": "reverse" if reverse else "forward", "t": t, "lag": T - t, "log10_grad_norm": norm, "log10_immediate_norm": norm, "log10_cell_grad_norm": None, "hidden_rms": 0.5, "saturation": 0.0})  # fmt: skip


DIRECTIONS = 6


def make_spectra(common: Settings, T: int, rate: float, given: Settings, found: dict[str, list[Any]]) -> Settings:
    """Append the spectra of one run: λ_i = rate − i/10 for direction i from 0, exactly what its singular values grow by. The columns of ``runs``.

    ``directions`` of the last are dead (−∞). ``lags`` are those of the singular values.
    """
    size, dead, lags = (
        given.get("directions", DIRECTIONS),
        given.get("dead_directions", 0),
        [lag for lag in given.get("lags", (1, 3)) if lag <= T],
    )
    exponents = [-math.inf if i >= size - dead else rate - 0.1 * i for i in range(size)]
    first = given.get(
        "first", 0.0
    )  # decades by which all directions grow within the first step, beside their exponents
    for i, exponent in enumerate(exponents, start=1):
        of_run = common | {"update": 0, "sample": 0, "i": i}
        for lag in lags:
            extend(found, of_run | {"lag": lag, "lyapunov_exponent": None, "lyapunov_error": None, "log10_singular_value": exponent * lag / LN10 + first, "log10_gradient_ratio": rate * lag / LN10 - 0.1 if lag < T else None})  # fmt: skip
        extend(found, of_run | {"lag": None, "lyapunov_exponent": exponent, "lyapunov_error": 0.01, "log10_singular_value": None, "log10_gradient_ratio": None})  # fmt: skip
    surviving = (
        sum((exponents[0] - each) * lags[-1] < 2 * LN10 for each in exponents) if lags and math.isfinite(rate) else None
    )
    return {
        "lyapunov_max": exponents[0], "lyapunov_error": given.get("exponent_error", 0.01), "growth_minus_lyapunov": given.get("apart", 0.001),
        "surviving_directions": surviving, "spectra_lag": lags[-1] if lags else None,
        "kaplan_yorke_dimension": 2.5 if rate > 0 else 0.0, "entropy_rate": max(0.0, rate),
        "henrici": given.get("henrici", 0.7), "numerical_radius": 1.4, "peak_growth": given.get("peak_growth", 3.5), "peak_growth_lag": given.get("peak_growth_lag", 7),
    }  # fmt: skip


def make_check(given: Settings) -> Settings:
    """One row of the table checks; without an error, of a comparison whose two sides are not finite."""
    neither = {"where": "not finite, on both sides"} if given.get("relative_error", 0.0) is None else {}
    return {
        "stage": "gate", "oracle": "torch.autograd", "run_key": "k", "sweep": "one", "update": 0, "task": "digits",
        "cell": "vanilla", "activation": "tanh", "spectral_radius": 1.0, "sequence_length": 6, "dtype": "float64",
        "device": "cpu",
        "regime": "stable", "relative_error": 1e-15, "where": "weight_hh", "tolerance": 1e-10,
    } | neither | given  # fmt: skip


def extend(columns: dict[str, list[Any]], row: Settings) -> None:
    for name, value in row.items():
        columns[name].append(value)


def write_tables(folder: Path, runs: Iterable[Settings], checks: Iterable[Settings] = ({},)) -> dict[str, Path]:
    """The tables of a study that nobody ran."""
    runs = list(runs)
    tables = (*TABLES, *(["spectra"] if any(run.get("spectra") for run in runs) else []))
    several = any(run.get("layers", 1) > 1 or run.get("bidirectional") for run in runs)
    sampled = any("dynamic" in run for run in runs)  # its rows nobody reads: the runs have what theory says of them
    tables = (*tables, *(["layers"] if several else []), *([THEORY] if sampled else []))
    found: dict[str, dict[str, list[Any]]] = {table: defaultdict(list) for table in tables}
    for run in runs:
        make_run(run, found)
    for check in checks:
        extend(found["checks"], make_check(check))
    for table in tables:
        rows = len(next(iter(found[table].values()), ()))
        columns = {column.name: [None] * rows for column in columns_of(table)} | found[table]
        store.write(store.build(table, columns), folder / f"{table}.parquet", {"table": table, "study": "drawn"})
    return {table: folder / f"{table}.parquet" for table in tables}
