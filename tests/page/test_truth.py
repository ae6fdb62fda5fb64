"""No statement that its own data deny: the pages of studies drawn at random, every number computed a second time."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import pytest

from study.report import page as page_of_study
from study.report import reader as figure_reader
from study.report import words
from study.settings import described_axes
from tests.figures.drawn import write_tables
from tests.page import drawn_studies
from tests.page.reading import Reader, count_words, read, sentences_of
from tests.page.second_opinion import KINDS

pytestmark = pytest.mark.xdist_group("drawn pages")  # one set-up for all

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
FIGURES = sorted(path.stem for path in (SCRIPTS / "figures").glob("[!_]*.py"))
PICTURE = '<svg width="1" height="1"></svg>'
ONE = {"updates": 0, "sequence_length": 9, "sweep": "propagation"}
TRAIN = {"updates": 3, "trace_every": 2, "sequence_length": 6, "task": "digits", "sweep": "training"}
SUCCEED = TRAIN | {"updates": 6, "task": "temporal_order", "success_below": 0.01, "accuracy": 0.5}
PUBLISHED = {
    "activation": "tanh", "initializer": "pascanu_tanh", "spectral_radius": None, "hidden_size": 50, "batch_size": 20, "optimizer": "sgd",
    "learning_rate": 0.01,
}  # fmt: skip


def until(updates: int | None) -> dict[str, Any]:
    """A run that succeeds after so many updates, or does not."""
    return {
        "success": updates is not None,
        "updates_to_success": updates,
        "ends_at": updates,
        "accuracy": 0.5 if updates is None else 0.995,
    }


NAMED: dict[str, list[dict[str, Any]]] = {
    "one run alone": [ONE],
    "one trained run alone": [TRAIN],
    "all runs break down": [TRAIN | {"breaks_at": 0, "seed": s, "clipping": c} for s in range(6) for c in ("none", "norm:1.0")],
    "every gradient exactly zero": [
        ONE | {"rate": -math.inf, "spectral_radius": r, "seed": s} for r in (0.5, 1.5) for s in range(6)
    ],
    "no gradient is a number": [ONE | {"rate": math.nan, "seed": s} for s in range(3)],
    "some gradients are numbers": [
        ONE | {"activation": f, "spectral_radius": r, "sequence_length": T, "seed": s, "rate": math.nan if s > 3 else -0.2 * r, "float16_flushed_at": 1 if s == 0 else None}
        for f in ("relu", "identity") for r in (0.5, 1.0, 1.5, 2.0) for T in (4, 9) for s in range(6)
    ],
    "a sequence of one step": [ONE | {"sequence_length": 1}],
    "seeds that disagree": [
        ONE | {"activation": "relu", "spectral_radius": r, "seed": s, "rate": q * (r - 1.1)}
        for r in (0.8, 1.0, 1.5) for s, q in enumerate((2.0, 1.0, -1.0, 3.0, 0.2, 9.0))
    ],
    "sequences that end at different steps": [
        ONE | {"task": task, "cell": c, "seed": s, "rate": -0.1 * s, **ends}
        for task, ends in (("kinds", {"ends": (0, 3, 5)}), ("sums", {"loss_at": "every"}), ("white_noise", {}))
        for c in ("vanilla", "lstm") for s in range(6)
    ],
    "sequences of one step among others": [
        ONE | {"cell": c, "sequence_length": T, "seed": s, "float16_flushed_at": 3 if T > 1 else None, "rate": -0.4 * (1 + s)}
        for c in ("vanilla", "gru", "lstm") for T in (1, 2, 9) for s in range(6)
    ],
    "windows that change nothing": [
        TRAIN | {"cell": c, "truncation": k, "seed": s, "accuracy": 0.5 + 0.01 * s - 0.1 * (k == 1) * (s % 2)}
        for c in ("vanilla", "gru") for k in (None, 1, 3, 5) for s in range(6)
    ],
    "six clipping rules": [
        TRAIN | {"cell": c, "clipping": r, "seed": s, "accuracy": 0.5 + 0.01 * ((s * i) % 5)}
        for c in ("vanilla", "gru") for s in range(6)
        for i, r in enumerate(("none", "norm:0.5", "value:0.01", "parameter:0.3", "adaptive:0.02", "signal:0.001"))
    ],
    "training for longer": [
        TRAIN | {"updates": u, "trace_every": u // 2, "clipping": c, "seed": s, "norm": 1.0 + 0.1 * s, "accuracy": 0.3 + 0.1 * (u == 6) * (s % 3) + 0.02 * s}
        for u in (2, 6) for c in ("none", "norm:1.0") for s in range(6)
    ],
    "one update": [TRAIN | {"updates": 1, "trace_every": 1, "seed": s, "held_out_loss": 3.0} for s in range(6)],
    "one update and more": [
        TRAIN | {"updates": u, "trace_every": 1, "clipping": c, "seed": s, "accuracy": 0.3 + 0.01 * s} for u in (1, 5) for c in ("none", "norm:1.0") for s in range(6)
    ],
    "biases of gates": [
        TRAIN | {"cell": c, "forget_bias": b, "seed": s, "accuracy": 0.4 + 0.1 * b + 0.03 * ((s * 3 + (c == "gru")) % 4), "rate": -0.1 + 0.03 * b + 0.01 * s}
        for c in ("gru", "lstm") for b in (0.0, 2.0) for s in range(6)
    ] + [TRAIN | {"cell": c, "chrono": 64, "seed": s, "accuracy": 0.7 + 0.02 * ((s * 5) % 4), "rate": -0.01 * s} for c in ("gru", "lstm") for s in range(6)],
    "many learning rates": [
        TRAIN | {"learning_rate": round(0.01 * 1.5**i, 5), "seed": s, "accuracy": 0.8 - 0.05 * abs(i - 4) + 0.004 * ((s * (i + 1)) % 5)}
        for i in range(10) for s in range(6)
    ],
    "results that are the same": [
        TRAIN | {"cell": c, "optimizer": o, "seed": s, "accuracy": 1.0} for c in ("gru", "lstm") for o in ("adam", "adamw") for s in range(6)
    ],
    "spectra": [
        ONE | {"spectra": True, "lags": (1, 5), "activation": f, "spectral_radius": r, "seed": s, "rate": 0.4 * (r - 1.2) + 0.01 * s, "first": 0.3 * r - 0.2 + 0.01 * s}
        for f in ("tanh", "sigmoid") for r in (0.5, 1.0, 1.5) for s in range(6)
    ],
    "spectra of two initialisers": [
        ONE | {"spectra": True, "lags": (1, 5), "initializer": kind, "seed": s, "rate": -0.1 + 0.01 * s, "henrici": h, "peak_growth": peak}
        for kind, h, peak in (("gaussian", 0.7, 2.5), ("orthogonal", 0.0, 1.0)) for s in range(6)
    ],
    "two theories of gates": [
        ONE | {"cell": c, "spectral_radius": r, "seed": s, "rate": 0.2 * (r - 2.4) + 0.01 * s, "dynamic": None if s == 5 else 0.2 * (r - 2.3)}
        for c in ("gru", "lstm") for r in (1.0, 2.0, 3.0) for s in range(6)
    ],
    "theories that do not settle among others": [
        ONE | {"cell": "gru", "initializer": i, "spectral_radius": r, "seed": s, "rate": 0.2 * (r - 2.4) + 0.01 * s,
               "dynamic": None if r == 3.0 or i == "orthogonal" else 0.2 * (r - 2.3)}
        for i, radii in (("gaussian", (1.0, 2.0, 3.0)), ("orthogonal", (1.0,))) for r in radii for s in range(6)
    ],
    "success by rule, regulariser and length": [
        SUCCEED | {"sweep": kind, "initializer": kind, "clipping": c, "omega": o, "sequence_length": T, "seed": s} | until(
            None if (T + s) % 9 > 2 * i + 3 * (c != "none") + (o > 0) else 1 + (s + i) % 6)
        for i, kind in enumerate(("pascanu_tanh", "pascanu_smart", "pascanu_sigmoid")) for c in ("none", "norm:1.0") for o in (0.0, 4.0)
        for T in (20, 30, 50) for s in range(6)
    ],
    "no success": [SUCCEED | {"cell": c, "seed": s, "sequence_length": 10} | until(None) for c in ("gru", "lstm") for s in range(6)],
    "success of one line": [SUCCEED | {"sequence_length": T, "seed": s} | until(2 if s > 2 else None) for T in (10, 20) for s in range(6)],
    "success at one length": [
        SUCCEED | {"clipping": c, "sequence_length": 10, "seed": s} | until(2 + s % 3 if c == "none" or s else None)
        for c in ("none", "norm:1.0") for s in range(6)
    ],
    "the published settings": [
        SUCCEED | PUBLISHED | {"clipping": c, "omega": 4.0, "sequence_length": T, "seed": s} | until(4 if T == 20 or s == 1 else None)
        for c in ("none", "norm:1.0") for T in (20, 50) for s in range(6)
    ],
    "weight scales": [
        ONE | {"spectral_radius": None, "weight_scale": w, "activation": f, "seed": s, "rate": 0.4 * (w - at) + 0.01 * s, "predicted": 0.4 * (w - 1.4)}
        for f, at in (("tanh", 1.2), ("relu", 1.5), ("sigmoid", 9.0)) for w in (0.5, 1.0, 2.0, 3.0) for s in range(6)
    ],
    "two directions": [
        ONE | {"cell": c, "layers": 2, "bidirectional": both, "seed": s, "rate": -0.2 + 0.05 * both + 0.01 * s, "depth": -0.3 + 0.01 * s}
        for c in ("vanilla", "gru") for both in (False, True) for s in range(6)
    ],
    "lengths that are tasks of their own": [
        TRAIN | {"task": task, "cell": c, "sequence_length": T, "seed": s, "baseline_loss": 2.3 / T, "held_out_loss": (1.0 + 0.1 * (s % 3) + 0.5 * (c == "gru")) / T}
        | ({"accuracy": None} if task == "input_mean" else {"baseline_accuracy": 0.5 + 0.04 * T, "accuracy": 0.55 + 0.04 * T + 0.01 * (s % 3)})
        for task in ("digits", "input_mean") for c in ("vanilla", "gru") for T in (2, 5, 6, 8) for s in range(6)
    ],
    "lengths whose baselines are noisy": [
        TRAIN | {"task": "input_mean", "sequence_length": T, "seed": s, "accuracy": None, "baseline_loss": 0.05 + 0.001 * ((3 * s + T) % 7 + (T == 2)), "held_out_loss": (0.02 + 0.001 * s) * (1 + (T == 2))}
        for T in (2, 8) for s in range(6)
    ],
    "lengths alone, that are tasks of their own": [
        TRAIN | {"sequence_length": T, "seed": s, "baseline_accuracy": 0.5 + 0.04 * T, "accuracy": 0.55 + 0.04 * T + 0.01 * (s % 3)}
        for T in (2, 8) for s in range(6)
    ],
    "two directions that train": [
        TRAIN | {"bidirectional": both, "clipping": c, "seed": s, "accuracy": 0.5 + 0.2 * both + 0.01 * s}
        for both in (False, True) for c in ("none", "norm:1.0") for s in range(6)
    ],
    "the first of two radii is better": [
        TRAIN | {"spectral_radius": r, "clipping": c, "seed": s, "accuracy": 0.5 + 0.2 * (r == 1.2) * (c == "none") + 0.01 * ((s * (2 + (r == 1.2))) % 5)}
        for r in (1.2, 1.6) for c in ("none", "norm:1.0") for s in range(8)
    ],
    "five cells that train": [
        TRAIN | {"cell": c, "seed": s, "accuracy": 0.5 + 0.01 * s}
        for c in ("vanilla", "residual", "gru", "gru_reset_before", "lstm") for s in range(6)
    ],
    "weight scales with spectra": [
        ONE | {"spectral_radius": None, "weight_scale": w, "activation": f, "sequence_length": T, "seed": s, "spectra": True, "lags": (1, 3), "rate": 0.4 * (w - 1.2) + 0.01 * s / T}
        for f in ("tanh", "relu") for w in (0.5, 1.0, 2.0, 3.0) for T in (5, 9) for s in range(6)
    ],
    "lengths as the question": [
        ONE | {"initializer": i, "cell": c, "sequence_length": T, "seed": s, "rate": -0.3 + 0.1 * (i == "orthogonal") + 0.01 * s, "predicted": -0.2 - 1.0 / T, "dynamic": -0.25 if c == "gru" else None}
        for c, i in (("vanilla", "gaussian"), ("vanilla", "orthogonal"), ("gru", "gaussian")) for T in (1, 2, 5, 9, 40) for s in range(6)
    ],
    "sweeps of different numbers": [
        *(ONE | {"sweep": "widths", "hidden_size": h, "seed": s, "rate": -0.2 + 0.002 * h + 0.001 * s} for h in (1, 4, 64) for s in range(6)),
        *(ONE | {"sweep": "inputs", "hidden_size": 10, "input_correlation": r, "dtype": d, "sequence_length": T, "seed": s, "rate": -0.3 - 0.2 * r + 0.001 * s}
          for r in (0.0, 0.9) for d in ("float32", "float64") for T in (5, 30) for s in range(6)),
        *(ONE | {"sweep": "steps", "cell": "antisymmetric", "antisymmetric_step": e, "seed": s, "rate": 0.1 * e + 0.001 * s} for e in (0.1, 1.0) for s in range(6)),
    ],
    "a map beside shorter sequences": [
        *(ONE | {"sweep": "short", "cell": "indrnn", "activation": f, "sequence_length": T, "seed": s, "rate": -0.2 - 0.3 * s}
          for f in ("tanh", "softplus") for T in (1, 2, 3, 6) for s in range(6)),
        *(ONE | {"sweep": "biases", "cell": c, "forget_bias": b, "hidden_size": 5, "sequence_length": T, "seed": s, "rate": 0.02 * b - 0.1 - 0.02 * s}
          for c in ("gru", "lstm") for b in (0.0, 2.0, 4.0) for T in (20, 60) for s in range(6)),
    ],
    "more maps than have room": [
        ONE | {"activation": f, "initializer": i, "input_scale": u, "spectral_radius": r, "sequence_length": T, "seed": s, "rate": 0.3 * (r - u) - 0.01 * s if s or u < 1 else math.nan, "predicted": None}
        for f in ("tanh", "relu", "sigmoid") for i in ("gaussian", "orthogonal") for u in (0.5, 1.0, 2.0) for r in (0.5, 1.5) for T in (20, 50) for s in range(2)
    ],
    "stacks of two radii": [
        ONE | {"cell": c, "layers": L, "spectral_radius": r, "seed": s, "rate": (r - 2.0) / L + 0.08 * (c == "gru") * (2 - L) - 0.01 * (c == "lstm") + 0.001 * s, "sequence_length": 40,
               **({"critical": 1.9 - 0.2 * (L > 1) + 0.5 * (L > 1) * (r - 1.0) + 0.01 * s} if c == "vanilla" else {})}
        for c in ("vanilla", "gru", "lstm") for L in (1, 3, 4) for r in (0.9, 1.1) for s in range(6)
    ],
    "linear networks that hardly forget": [
        ONE | {"activation": f, "initializer": i, "spectral_radius": r, "seed": s, "sequence_length": 20, "rate": r - 1.0 - 0.1 * (f == "tanh") + 0.001 * s,
               "depth_scale": 1e15 if f == "identity" else 23.0 + s, "settled_from": 10 if s < 2 else 4}
        for f in ("identity", "tanh") for i in ("gaussian", "orthogonal") for r in (0.9, 1.1) for s in range(6)
    ],
    "a cell without recurrent weights beside radii": [
        *(ONE | {"sweep": "radii", "spectral_radius": r, "sequence_length": T, "seed": s} for r in (0.5, 1.0, 1.5) for T in (5, 9) for s in range(6)),
        *(ONE | {"sweep": "gates", "cell": "mingru", "initializer": None, "spectral_radius": None, "chrono": c, "sequence_length": T, "seed": s, "rate": -0.3 - 0.01 * c, "weights": False}
          for c in (5, 20) for T in (5, 9) for s in range(6)),
    ],
    "ten activation functions": [
        ONE | {"activation": f, "seed": s, "rate": -0.1 * ((3 * i) % 10) - 0.01 * s}
        for i, f in enumerate(("elu", "gelu", "hard_tanh", "identity", "leaky_relu", "relu", "selu", "sigmoid", "silu", "tanh")) for s in range(6)
    ],
    "dead units": [
        ONE | {"activation": f, "hidden_size": h, "seed": s, "rate": -math.inf if f == "hard_tanh" or (s + h) % 3 else -0.3 - 0.1 * h}
        for f in ("hard_tanh", "relu", "sigmoid") for h in (1, 2) for s in range(6)
    ],
    "copy memory at three lags": [
        ONE | {"task": "copy_memory", "loss_at": "every", "spectral_radius": r, "sequence_length": T, "seed": s, "rate": 0.3 * (r - 1.3) + 0.01 * s, "predicted": 0.3 * (r - 1.3)}
        for r in (0.9, 1.2) for T in (1, 2, 8) for s in range(6)
    ],
    "copy memory beside another task": [
        ONE | {"task": t, "sequence_length": T, "seed": s, "rate": -0.1 + 0.03 * s - 0.01 * (t == "adding")} for t in ("adding", "copy_memory") for T in (2, 8) for s in range(6)
    ],
    "copy memory that trains": [
        TRAIN | {"task": "copy_memory", "loss_at": "every", "cell": c, "sequence_length": T, "seed": s, "accuracy": 0.5 + 0.01 * s} for c in ("vanilla", "gru") for T in (2, 8) for s in range(6)
    ],
    "two sweeps that start from the same networks": [
        TRAIN | {"sweep": name, "clipping": rule, "cell": c, "spectral_radius": r, "seed": s, "rate": 0.5 if c == "residual" else r - 1.0 - (s > 1), "accuracy": 0.5 + 0.01 * s}
        for name, rule in (("free", "none"), ("held", "norm:1.0")) for c in ("vanilla", "residual") for r in (0.8, 1.2) for s in range(6)
    ],
    "rates that are the same by construction": [
        ONE | {"cell": c, "bidirectional": both, "loss_at": at, "layers": L, "sequence_length": T, "seed": s, "rate": -0.2 - 0.01 * s * (20 / T) ** (c == "gru") + 0.05 * both * (L > 1) + 0.02 * (c == "lstm")}
        for c in ("gru", "lstm") for both in (False, True) for at in ("last", "every") for L in (1, 2) for T in (6, 20) for s in range(6)
    ],
    "eighteen networks": [
        ONE | {"activation": f, "initializer": i, "dtype": d, "spectral_radius": r}
        for f in ("relu", "sigmoid", "tanh") for i in ("gaussian", "orthogonal") for d in ("float32", "float64") for r in (0.5, 1.5)
    ],
}  # fmt: skip
DRAWN = 24
MOST_WORDS = 30  # of a sentence
MOST_SPOKEN = 50  # of one that is read to somebody, names and numbers included
MOST_LETTERS = 160  # of a headline
DECADES = (
    "first_growth",
    "median_decades",
    "highest_norm",
    "first_step_first",
    "first_step_final",
    "first_step_change",
    "second_direction",
    "second_direction_low",
    "second_direction_high",
)


SHARES = [{"part": "engine", "seconds": 1.5, "share": 0.25}]


def page_of(
    folder: Path, runs: list[dict[str, Any]], sweeps: Mapping[str, Any] = MappingProxyType({})
) -> tuple[str, dict[str, pd.DataFrame]]:
    """The page of a study that nobody ran, with every figure's sentences; and its tables."""
    files = write_tables(folder, runs)
    tables = figure_reader.Tables(files)
    config = {
        "study": "drawn",
        "title": "A drawn study",
        "question": "What is true?",
        "sweeps": dict(sweeps),
        "figures": FIGURES,
    }
    figures = []
    for name in FIGURES:
        module = importlib.import_module(f"figures.{name}")
        facts = module.facts(module.frame(tables), tables.study)
        figures.append(page_of_study.figure(name, PICTURE, PICTURE, facts, config))
    frames = {name: pd.read_parquet(file) for name, file in files.items()}
    provenance = {"config": config, "config_digest": "c", "engine": "e", "commit": "0", "device": "cpu", "python": "3", "platform": "p", "versions": {}}  # fmt: skip
    needed = {**frames, "updates": frames["updates"][frames["updates"]["update"] == 0]}
    sizes = {name: len(frame) for name, frame in frames.items()}
    return page_of_study.page(needed, sizes, figures, SHARES, provenance, datetime(2026, 11, 25, tzinfo=UTC)), frames


@pytest.fixture(scope="module", params=[*NAMED, *range(DRAWN)], ids=str)
def shown(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Reader, str, dict[str, pd.DataFrame]]:
    named = isinstance(request.param, str)
    runs = drawn_studies.shuffled(NAMED[request.param]) if named else drawn_studies.study(request.param)
    page, frames = page_of(tmp_path_factory.mktemp("page"), runs)
    return read(page), page, frames


Shown = tuple[Reader, str, dict[str, pd.DataFrame]]


def test_every_number_is_what_a_second_program_finds(shown: Shown) -> None:
    reader, _, frames = shown
    assert reader.numbers
    for number in reader.numbers:
        assert number.kind in KINDS, f"{number.kind}: no second opinion"
        if number.kind == "setting":
            axis = number.where["axis"]
            known = [
                frame[axis].dropna().astype(float) for frame in (frames["runs"], frames["checks"]) if axis in frame
            ]
            assert number.value in set(pd.concat(known)), number
            continue
        expected = KINDS[number.kind](frames, number.where)
        assert number.value == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True), number


def test_every_text_is_its_number_rounded(shown: Shown) -> None:
    """What a reader sees is the value beside it, at the digits shown."""
    reader, _, _ = shown
    for number in reader.numbers:
        shown_value = value_of(number.text)
        if shown_value is None:
            continue
        value, digits = shown_value
        points = number.text.endswith(" %") or number.kind.startswith(
            ("accuracy_difference", "success_difference", "published_difference")
        )
        wanted = [100 * number.value if points else number.value]
        if number.kind in DECADES:  # its text is the factor
            wanted.append(10.0**number.value)
        assert any(value == pytest.approx(each, abs=0.5001 * digits, rel=1e-9) for each in wanted), number


def value_of(text: str) -> tuple[float, float] | None:
    """(the number that a text shows, the size of its last digit); None where it is in words. A power of ten is its exponent."""
    if power := re.fullmatch("10([⁻·⁰¹²³⁴⁵⁶⁷⁸⁹]+)", text):
        exponent = power[1].translate(str.maketrans("⁻·⁰¹²³⁴⁵⁶⁷⁸⁹", "-.0123456789"))
        return float(exponent), 0.1 if "." in exponent else 1.0
    plain = text.removesuffix(" %").replace("−", "-").replace("+", "").replace(",", "")
    if re.fullmatch(r"-?\d+(\.\d+)?", plain):
        decimals = len(plain.partition(".")[2])
        significant = plain.lstrip("-0").replace(".", "")
        size = 10.0**-decimals
        if not decimals and len(significant) > 2:  # 2900 for 2909: two digits were meant
            size = 10.0 ** (len(significant) - len(significant.rstrip("0")))
        return float(plain), size
    return None


def test_no_digit_is_without_its_source(shown: Shown) -> None:
    """Digits outside of marked numbers are settings' values, or part of a definition."""
    reader, _, frames = shown
    # h_1, within a factor of 100, 95 % intervals, −3 on a logarithmic axis is a thousandth, +0.69 a step doubles …
    allowed = {
        "0",
        "0.05",
        "0.1",
        "0.69",
        "1",
        "2",
        "3",
        "10",
        "95",
        "100",
        "2013",
        "57",
    }  # a year; five of five has 57 % to 100 %
    for axis, described in described_axes().items():
        for value in frames["runs"][axis].dropna().unique():
            allowed |= set(re.findall(r"\d+(?:\.\d+)?", str(value)))
            if described["kind"] in ("number", "integer"):
                allowed.add(words.number(float(value)))
    for text, (section, tag, _) in zip(reader.unmarked, reader.blocks, strict=True):
        if not section or section in ("how", "not-drawn") or tag == "number":
            continue
        text = re.sub(r"log₁₀|float\d+|bfloat16|[a-z]+:[\d.]+|χ₁|\[\d", " ", text)
        for digits in re.findall(r"\d+(?:\.\d+)?", text):
            assert digits in allowed, f"{digits} in {text!r}"


def test_no_sentence_is_empty_or_repeated(shown: Shown) -> None:
    reader, _, _ = shown
    said = [text for section, tag, text in reader.blocks if tag in ("li", "h2", "p") and section and section != "how"]
    long = [text for text in said if len(text) > 40]
    assert len(long) == len(set(long)), [text for text in long if long.count(text) > 1]
    for section, tag, text in reader.blocks:
        if tag == "number":
            continue
        assert not re.search(r"\b(nan|None|inf|True|False)\b", text), text
        assert not re.search(r"\(\s*\)|\s[,.;]|\.\.|,,|;;|\[\]|  ", text.replace("…", "")), text
        if tag == "li" and section == "answer":
            assert text.endswith("."), text


def test_every_sentence_can_be_read_in_one_breath(shown: Shown) -> None:
    """At most 30 words, in the findings, the captions, the explanations and the checks; a cell of a table is a list, not a sentence."""
    _, page, _ = shown
    blocks = read(page, not_read=("references",)).blocks
    spoken = [text for _, tag, text in blocks if tag not in ("td", "th", "dd", "number", "kicker", "meta")]
    long = {each: count_words(each) for text in spoken for each in sentences_of(text) if count_words(each) > MOST_WORDS}
    assert not long, long


def test_what_a_screen_reader_says_has_short_sentences(shown: Shown) -> None:
    """An alternative text listed twelve panels by their settings in one sentence of 140 words."""
    _, page, _ = shown
    spoken = set(re.findall(r'(?:aria-label|alt)="([^"]*)"', page))
    long = {
        each: len(each.split()) for text in spoken for each in sentences_of(text) if len(each.split()) > MOST_SPOKEN
    }
    assert not long, long


def test_a_headline_takes_three_lines_at_most(shown: Shown) -> None:
    """That of success rates counted four kinds of runs, on four lines."""
    _, page, _ = shown
    titles = re.findall(r'class="figure">\s*<h2>(.*?)</h2>', page, flags=re.DOTALL)
    long = [text for title in titles if len(text := re.sub(r"<[^>]*>", "", title)) > MOST_LETTERS]
    assert titles and not long, long


def test_a_long_sentence_is_seen() -> None:
    """Brackets, numbers, settings and lists of names count as one word each; all else counts."""
    assert (
        count_words("On digits (8 seeds; 3 % to 9 %), relu, sigmoid and tanh reach 12 % at learning rate = 0.1.") == 8
    )
    assert count_words("Radii: ρ = 0.5 for λ = 0; ρ from 1 to 2 for λ = 0.1.") == 7
    assert count_words("It is one of those sentences, and it goes on, and it has no list.") == 15
    assert sentences_of("One idea. ρ is another! 3 of 4 runs are a third.") == [
        "One idea.",
        "ρ is another!",
        "3 of 4 runs are a third.",
    ]


def test_figures_that_are_not_drawn_are_named_and_no_other(shown: Shown) -> None:
    reader, page, _ = shown
    drawn = set(re.findall(r'<section id="(\w+)" class="figure">', page))
    left_out = [text for section, tag, text in reader.blocks if section == "not-drawn" and tag == "li"]
    assert len(drawn) + len(left_out) == len(FIGURES)
    for name in set(FIGURES) - drawn:
        assert any(text.startswith(name.replace("_", " ").capitalize()) for text in left_out)
    to_do = re.compile("(Add|Set) |The gate compares")  # the picture says what to add, and the page does, too
    assert all(to_do.search(text) for text in left_out), left_out


def test_sentences_are_about_what_the_study_has(shown: Shown) -> None:
    """Nothing is said of training where nothing trains, nor of clipping where one rule is used, nor of networks that are not there."""
    reader, _, frames = shown
    runs = frames["runs"]
    text = " ".join(text for section, _, text in reader.blocks if section not in ("", "not-drawn", "how"))
    if not (runs["updates"] > 0).any():
        assert "held-out" not in text and "break down" not in text
    if runs["clipping"].nunique() == 1:
        assert "no clipping" not in text
    for name in ("relu", "sigmoid", "identity"):
        if not (runs["activation"] == name).any():
            assert not re.search(rf"\b{name}\b", re.sub(r"activation is the identity|For the identity", "", text)), name


def test_runs_are_drawn_in_no_order() -> None:
    """The tables of a real study are sorted by run key: what comes first in them is nothing's smallest value."""
    runs = drawn_studies.study(20)
    lengths = [run["sequence_length"] for run in runs if run["updates"] == 0]
    assert lengths != sorted(lengths) and [run["seed"] for run in runs] != sorted(run["seed"] for run in runs)


def words_of(shown: Shown) -> str:
    """All blocks of the page, one after the other."""
    reader, _, _ = shown
    return " ".join(text for _, _, text in reader.blocks)


def test_networks_by_what_predicts_them_add_up(shown: Shown) -> None:
    """Of 126 networks, 84 were counted by their theory, and nothing was said of the others."""
    for said in re.findall(
        r"Of (\d+) networks, the rate is predicted (.*?)\.(?: The other (\d+) ha(?:s|ve) no prediction\.)?",
        words_of(shown),
    ):
        counts = [int(count) for count in re.findall(r"for (\d+)", said[1])]
        assert int(said[0]) == sum(counts) + int(said[2] or 0), said


@pytest.mark.parametrize("shown", ["spectra of two initialisers"], indirect=True)
def test_a_median_lies_in_no_gap_between_two_kinds_of_matrix(shown: Shown) -> None:
    """Gaussian and orthogonal matrices together were said to depart from normal by 0.35, which no matrix does."""
    text = words_of(shown)
    assert "in parts of its norm and in the median: 0.7 for gaussian and 0 for orthogonal." in text
    assert "stretch more than ρ alone would: 2.5 times at power k = 7 for gaussian." in text


@pytest.mark.parametrize("shown", ["weight scales"], indirect=True)
def test_a_study_of_weight_scales_says_where_growth_turns(shown: Shown) -> None:
    """It said which σ_w grows more than which, and nothing of where growth turns."""
    text = words_of(shown)
    assert "the growth rate turns from negative to positive at weight scale σ_w = " in text
    assert "turns positive at σ_w = " in text and "Critical σ_w." in text
    assert "For sigmoid it is negative at every σ_w from 0.5 to 3." in text and "ρ from" not in text


@pytest.mark.parametrize("shown", ["sequences of one step among others"], indirect=True)
def test_networks_without_a_way_back_are_counted_apart(shown: Shown) -> None:
    text = words_of(shown)
    assert "Networks with sequences of one step: 18. A gradient has no way back there" in text
    assert "36 of 36 starting networks as float16" in text


@pytest.mark.parametrize("shown", ["a map beside shorter sequences"], indirect=True)
def test_headlines_are_of_what_their_figures_show(shown: Shown) -> None:
    """A map of T = 20 and 60 was headed "4 of 4 at T = 2, 0 at T = 6"; the widest spread was that of the longest sequences alone; half of a
    gradient came from "3.5 of 60 steps up to 1 of 6"."""
    text = words_of(shown)
    assert re.search(r"which every network keeps its gradient: \d of 6 at T = 20, \d at T = 60\.", text)
    assert re.search(r"disagree about it in \d+ of 12 settings", text)
    assert re.search(r"Growth rates of networks of one kind spread by 0\.037 .*T = 60.* up to 0\.56 .*T = 6", text)
    assert re.search(r"Half of ∂L/∂W_hh comes from [\d.]+ of 60 steps up to [\d.]+ of 60 steps\.", text)


@pytest.mark.parametrize("shown", ["more maps than have room"], indirect=True)
def test_a_headline_of_more_than_is_drawn_says_so(shown: Shown) -> None:
    text = words_of(shown)
    assert re.search(r"keeps its gradient: \d+ of 36 at T = 20, \d+ at T = 50\.", text)
    assert "The headline is of all values, drawn or not." in text


@pytest.mark.parametrize("shown", ["one update", "one update and more"], indirect=True)
def test_a_loss_from_before_training_says_nothing_of_its_end(shown: Shown) -> None:
    """Training "ends below the loss without memory", by the loss of the first batch; the held-out loss had doubled."""
    text, (_, _, frames) = words_of(shown), shown
    if (frames["runs"]["updates"] == 1).all():
        assert "On digits, every recorded loss is from before training: how it ends is not drawn." in text
        assert "end training below" not in text and "ends below" not in text
        return
    assert "On digits, 12 of 12 runs end training below" in text
    assert "Of 12 runs, every recorded loss is from before training: how they end is not drawn." in text


@pytest.mark.parametrize("shown", ["no gradient is a number", "some gradients are numbers"], indirect=True)
def test_networks_without_a_number_are_not_unharmed_by_formats(shown: Shown) -> None:
    """Four networks whose gradients were all nan were said to keep them in float16."""
    text, (_, _, frames) = words_of(shown), shown
    if frames["runs"]["log10_gradient_ratio"].isna().all():
        assert "No starting network has a gradient of numbers on its way back" in text
        assert "would float16" not in text
        return
    assert "In 32 starting networks the gradient is not a number. Stored as plain floats" in text
    assert "lost on its way back in 16 of 64 other starting networks as float16" in text


@pytest.mark.parametrize("shown", ["six clipping rules", "windows that change nothing"], indirect=True)
def test_a_verdict_beside_many_columns_has_a_row_of_its_own(shown: Shown) -> None:
    """Beside six columns it was 150 px wide, and thirty lines high."""
    _, page, frames = shown
    (table,) = re.findall(r'<table id="table-1".*?</table>', page, flags=re.DOTALL)
    columns = len(re.findall(r'<th scope="col">', table))
    many = frames["runs"]["clipping"].nunique() == 6
    assert (
        len(re.findall(r'<tr class="below"><td class="words" colspan="7"><b>Which is better\?</b>', table)) == 2 * many
    )
    assert columns == (7 if many else 6) and table.count('class="words"') == 2


@pytest.mark.parametrize("shown", ["one run alone"], indirect=True)
def test_seconds_say_of_which_clock_they_are(shown: Shown) -> None:
    """Verification of 6.3 seconds stood beside 2.6: one by the clock, one of the processor."""
    _, page, _ = shown
    (times,) = re.findall(r'<section id="time">.*?</section>', page, flags=re.DOTALL)
    clock, processor = times.split('<table id="shares"')
    assert "These are seconds by the clock" in clock and "processor" not in clock
    assert '<th scope="col">processor seconds</th>' in processor and ">seconds<" not in processor
    assert ", 1 row. " in page and not re.search(r"\b1 rows", page)


@pytest.mark.parametrize("shown", ["stacks of two radii"], indirect=True)
def test_numbers_of_layers_have_radii_of_their_own(shown: Shown) -> None:
    """ "ρ = 1.63 (1.56 to 1.89 over networks)" was of four numbers of layers, and of one ρ of the layers below."""
    assert (
        "In mean field, growth of vanilla networks turns from negative to positive at ρ = 1.92 for L = 1 and "
        "1.72 (1.65 to 1.8 over networks and their inputs) for L = 3 and L = 4."
    ) in words_of(shown)


@pytest.mark.parametrize("shown", ["linear networks that hardly forget"], indirect=True)
def test_what_is_said_of_all_is_not_of_linear_networks(shown: Shown) -> None:
    """ "Every network forgets, at most in 23 steps": a linear one needed 10¹⁵. And where mean field turns was that of tanh alone."""
    text = words_of(shown)
    assert "By mean field, every network that is not linear forgets where it started." in text
    assert "Where it fades most slowly, a difference takes 28 steps" in text
    assert "at ρ = 1.2 for tanh (gaussian) and tanh (orthogonal)." in text
    of = "Of the networks that are not linear, the state of 8 of 24 does not settle within the sequence"
    assert f"{of}: their window is the later half. A linear network's rate does not depend on its state." in text
    assert "Linear networks are not counted, for their rate does not depend on the state." in text


@pytest.mark.parametrize("shown", ["stacks of two radii"], indirect=True)
def test_a_mean_over_settings_says_over_which_and_where_it_is_not_so(shown: Shown) -> None:
    """ "Highest with gru. This is a mean over all ρ": it was one over numbers of layers, too, and other at some of them."""
    text = words_of(shown)
    assert re.search(
        r"highest with vanilla and lowest with gru\. The difference is clear: 0\.0533 .* This is a mean over all ρ and numbers of layers\.",
        text,
    )
    assert "At 2 of 6 single settings the order is reversed." in text
    assert re.search(r"highest with L = 4 and lowest with L = 1\. .* This is a mean over all ρ and cells\.", text)


@pytest.mark.parametrize("shown", ["linear networks that hardly forget"], indirect=True)
def test_single_settings_that_are_means_say_so(shown: Shown) -> None:
    assert re.search(
        r"tanh minus identity: −0\.1 \(.*for orthogonal\. Each is a mean over all ρ\. All of these", words_of(shown)
    )


@pytest.mark.parametrize("shown", ["the first of two radii is better"], indirect=True)
def test_single_settings_are_told_of_the_better_value(shown: Shown) -> None:
    """ "ρ = 1.2 learns better. Setting by setting, ρ = 1.6 is clearly better in none": the sentence changed its subject to the loser."""
    text = words_of(shown)
    assert "On digits, ρ = 1.2 learns better: " in text
    assert "Setting by setting, ρ = 1.2 is clearly better in 1 of 2 and clearly worse in none." in text


def test_the_reason_is_told_where_no_sample_settles(tmp_path: Path) -> None:
    """Where theory settled for none, the page took it that nothing had been sampled."""
    grid = {"cell": "lstm", "spectral_radius": [2.0, 3.0], "sequence_length": 9}
    runs = [
        ONE | {"cell": "lstm", "spectral_radius": r, "seed": s, "predicted": None, "dynamic": None}
        for r in (2.0, 3.0)
        for s in range(6)
    ]
    runs += [ONE | {"seed": s, "rate": -0.1 + 0.01 * s} for s in range(6)]  # vanilla, and predicted
    why = "For 12 networks there is no prediction: the sampled units do not settle"
    asked = {"propagation": {"seeds": 6, "grid": grid}}
    assert why in " ".join(text for _, _, text in read(page_of(tmp_path / "a", runs, asked)[0]).blocks)
    assert why not in " ".join(text for _, _, text in read(page_of(tmp_path / "b", runs)[0]).blocks)


@pytest.mark.parametrize("shown", ["two theories of gates", "theories that do not settle among others"], indirect=True)
def test_networks_without_a_prediction_are_told_why(shown: Shown) -> None:
    """ "For 6 networks there is no prediction": of their setting units were sampled, and had not settled when the sample ended."""
    text, (_, _, frames) = words_of(shown), shown
    why = "the sampled units do not settle, so that a rate would depend on the number of steps."
    if set(frames["runs"]["initializer"]) == {"gaussian"}:
        assert f"For 6 networks there is no prediction: {why}" in text
    else:
        assert f"For 12 networks there is no prediction. For 6 of them, {why}" in text
