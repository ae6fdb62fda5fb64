"""The page, the figure and the README say what results.json says, the worst first, and admit what is not met."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cases, figure, peers, ratios, report, run
from benchmarks.work import Contender

PEERS = {"torch_eager": "PyTorch eager", "torch_nn": "torch.nn (no trace)", "jax_scan": "JAX scan + jit", "numpy_loop": "NumPy by hand"}  # fmt: skip


def contender(label: str, median: float, right: bool = True) -> dict[str, Any]:
    return {
        "label": label, "form": "only", "right": right, "relative_error": 1e-13 if right else None,
        "median_ms": median, "lower_quartile_ms": median * 0.9, "upper_quartile_ms": median * 1.1, "rounds": 7, "threads": 1.0,
    }  # fmt: skip


def results(ratio: float = 3.0, fraction: float = 0.9, sweep: float = 5.0) -> dict[str, Any]:
    """Of a run in which everything has this ratio and this fraction."""
    peers = {name: contender(label, 10.0 * ratio) for name, label in PEERS.items()}
    grid = [
        {
            "cell": group.cell, "regime": regime, "dtype": group.dtype, "hidden_size": group.hidden_size, "length": group.length,
            "decades": [-5.0, 0.0], "beyond": 0.0, "contenders": {"ours": contender("rnn_core", 10.0), **json.loads(json.dumps(peers))},
        }
        for group in cases.grid() for regime in group.regimes
    ]  # fmt: skip
    rates = [
        {
            "hidden_size": H, "length": 500, "product": {"gflops": 50.0, "by": "NumPy"},
            "ours": {regime: {**contender("", 1.0), "fraction": fraction, "beyond": 0.0, "decades": [0.0, 0.0]} for regime in ("critical", "vanishing")},
        }
        for H in cases.SIZES
    ]  # fmt: skip
    part = {
        "best_peer": "numpy_loop", "ours_vs_best_peer": sweep,
        "contenders": {"ours": contender("rnn_core", 1000.0), "numpy_loop": contender("NumPy by hand", 1000.0 * sweep)},
    }  # fmt: skip
    setting = {"lengths": 6, "clipping": ["none"] * 4, "radii": 8, "hidden_size": 64, "dtype": "float64"}
    machine = {"processor": "a processor", "cores": 2, "device": "one thread", "instructions": "AVX-512", "fast_path": "compiled", "versions": {"numpy": "2"}}  # fmt: skip
    return {
        "machine": machine,
        "missing": {"jax_scan": "jax is not installed"},
        "minutes": 1.0,
        "clock": "wall time",
        "rates": rates,
        "grid": grid,
        "sweep": {"runs": 192, "setting": setting, "engine": part, "whole": part},
    }


def place(given: dict[str, Any], **where: Any) -> dict[str, Any]:
    """The place of the grid with these values."""
    return next(entry for entry in given["grid"] if where.items() <= entry.items())


LSTM = {"cell": "LSTM", "regime": "exploding", "dtype": "float32", "hidden_size": 32}


def slow(given: dict[str, Any], peer: str, ratio: float, right: bool = True, **where: Any) -> dict[str, Any]:
    """The same, in which one peer has this ratio at one place."""
    row = place(given, **(where or LSTM))["contenders"][peer]
    row.update(contender(row["label"], 10.0 * ratio, right))
    return given


def test_the_page_says_met() -> None:
    page = report.page(results())
    assert "6 of 6 targets are met everywhere" in page  # nothing is beyond the range of floats here
    assert "not met" not in page.lower().replace("targets that are not met", "")
    assert "jax is not installed" in page


def test_the_page_leads_with_the_worst_ratio_and_where_it_is() -> None:
    """The page leads with the best, or with a median."""
    given = slow(results(), "numpy_loop", 0.257)
    lines = [line for line in report.page(given).splitlines() if line and not line.startswith("<!--")]
    T = place(given, **LSTM)["length"]
    assert lines[0] == "# Benchmarks"
    assert (
        lines[1]
        == f"**The worst ratio of the grid is 0.25**: LSTM, exploding, float32, H = 32, T = {T}, beside NumPy by hand."
    )
    assert "behind at 1 of 216 places" in report.page(given)
    assert figure.headline(given).startswith("At its worst rnn_core is 0.25 times")


@pytest.mark.parametrize(
    ("peer", "ratio", "right", "worst"),
    [
        ("numpy_loop", 0.5, False, 3.0),  # a wrong answer does not count …
        ("jax_scan", 0.5, False, 3.0),
        ("torch_eager", 0.5, False, 0.5),  # … but PyTorch's does
        ("torch_nn", 0.5, False, 0.5),
        ("numpy_loop", 0.5, True, 0.5),
        ("torch_nn", 4.0, True, 3.0),
    ],
)
def test_who_counts(peer: str, ratio: float, right: bool, worst: float) -> None:
    given = slow(results(), peer, ratio, right)
    assert ratios.ratio(ratios.worst(given["grid"]))[0] == pytest.approx(worst)


def _missed(given: dict[str, Any]) -> set[str]:
    return {name for name, places in ratios.judged(given).items() if not all(each.met for each in places)}


RIGHT, PYTORCH = "never slower than a peer whose answer is right", "never slower than PyTorch, right or wrong"
VANILLA, TRACE = "vanilla and residual, beside PyTorch and JAX", "GRU and LSTM, beside all that give a trace"
MODULE = "GRU and LSTM, beside `torch.nn` without a trace"


@pytest.mark.parametrize(
    ("given", "missed"),
    [
        (slow(results(), "numpy_loop", 0.99, cell="vanilla relu"), {RIGHT}),
        (slow(results(), "torch_eager", 0.99, right=False, cell="vanilla relu"), {PYTORCH}),
        (slow(results(), "jax_scan", 1.49, cell="residual tanh", hidden_size=32), {VANILLA}),
        (slow(results(), "jax_scan", 1.99, cell="residual tanh", hidden_size=64), {VANILLA}),
        (slow(results(), "jax_scan", 1.99, cell="residual tanh", hidden_size=128), set()),
        (slow(results(), "numpy_loop", 1.01, cell="residual tanh", hidden_size=64), set()),
        (slow(results(), "numpy_loop", 1.49), {TRACE}),
        (slow(results(), "jax_scan", 1.49, right=False), set()),
        (slow(results(), "torch_nn", 1.11), set()),
        (slow(results(), "torch_nn", 1.09), {MODULE}),
        (results(fraction=0.79), {"fraction of the matrix-product rate"}),
    ],
)
def test_targets_that_are_not_met_are_said(given: dict[str, Any], missed: set[str]) -> None:
    assert _missed(given) == missed
    page = report.page(given)
    assert page.count("**not met**") == len(missed)
    for name in missed:
        assert any(line.startswith(f"| {name} | **not met** at") for line in page.splitlines())


@pytest.mark.parametrize(("beyond", "ms", "met"), [(0.5, 12.4, True), (0.5, 12.6, False), (0.1, 99.0, True)])
def test_a_run_beyond_the_range_costs_no_more(beyond: float, ms: float, met: bool) -> None:
    given = results()
    entry = place(given, **LSTM)
    entry["beyond"] = beyond
    entry["contenders"]["ours"] = contender("rnn_core", ms)
    judged = ratios.judged(given)["beyond the range of floats by in range"]
    assert all(each.met for each in judged) == met
    assert len(judged) == (beyond > ratios.BEYOND)


def test_avx2_has_targets_of_its_own() -> None:
    given = results(fraction=0.745)
    assert _missed(given) == {"fraction of the matrix-product rate"}
    given["machine"]["instructions"] = "AVX2"
    assert not _missed(given)
    assert "## Without AVX-512" in report.page(results(), given)


def test_a_ratio_is_never_rounded_up() -> None:
    assert [ratios.short(value) for value in (0.999, 1.0, 2.519, 12.38)] == ["0.99", "1.00", "2.51", "12.3"]


def test_the_figure_draws_every_ratio() -> None:
    given = slow(results(), "numpy_loop", 0.25)
    for row in place(given, cell="GRU", regime="vanishing")["contenders"].values():
        row["right"] = False
    drawn = figure.draw(given)
    numbers = [text.get_text() for ax in drawn.axes for text in ax.texts if text.get_gid() == "ratio"]
    assert len(numbers) == len(given["grid"])
    assert numbers.count("3.00") == len(given["grid"]) - 2
    assert "0.25" in numbers
    assert "3.00°" in numbers


def test_page_and_figure_are_written_from_the_results_alone(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(report.as_json(results()))
    for name in ("a", "b"):
        report.write(tmp_path / "results.json", tmp_path / f"{name}.md", tmp_path / f"{name}.png", quoting=())
    for kind in ("md", "png"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_the_file_of_results_has_a_line_for_every_place() -> None:
    text = report.as_json(results())
    assert json.loads(text) == results()
    assert sum('"regime"' in line for line in text.splitlines()) == len(results()["grid"])


def test_the_page_in_docs_is_that_of_the_results() -> None:
    """Somebody edits a number on the page, or results.json without the page."""
    found = report.load(report.RESULTS)
    assert found is not None
    page = report.page(found, report.load(report.RESULTS_AVX2), report.load(report.RESULTS_GPU))
    assert report.PAGE.read_text(encoding="utf-8") == page


@pytest.mark.parametrize("file", report.QUOTING, ids=lambda file: file.name)
def test_other_pages_quote_the_range_over_the_whole_grid(file: Path) -> None:
    """README says another number than results.json, or none."""
    found = report.load(report.RESULTS)
    assert found is not None
    text = file.read_text(encoding="utf-8")
    assert text.count(report.sentence(found)) == 1
    planted = text.replace(report.sentence(found), report.sentence(results()))
    assert planted != text
    assert report.with_sentence(planted, found) == text


def test_the_sentence_names_both_ends() -> None:
    given = slow(results(), "numpy_loop", 0.257)
    for row in place(given, cell="GRU", regime="vanishing", dtype="float64")["contenders"].values():
        row["median_ms"] = 10.0 if row["label"] == "rnn_core" else 95.0
    assert report.sentence(given) == (
        "On one CPU thread, over a grid of 216 settings, a run was 0.25 to 9.50 times as fast as the fastest other program that counts. "
        "A program counts if its answer is right; PyTorch counts whatever its answer. "
        "The worst was LSTM, exploding, float32, beside NumPy by hand; the best was GRU, vanishing, float64, beside JAX scan + jit."
    )


def test_a_ratio_beside_a_wrong_answer_is_said_to_be_one() -> None:
    """README praises a speed beside PyTorch as if it were beside every program, though a faster one with a wrong answer was left out."""
    given = results()
    for name, row in place(given, **LSTM)["contenders"].items():
        row["right"] = name == "ours"
        row["median_ms"] = {"ours": 10.0, "torch_eager": 95.0, "torch_nn": 95.0}.get(name, 12.0)
    said = report.sentence(given)
    assert said.endswith("the best was LSTM, exploding, float32, beside PyTorch eager, whose answer is wrong.")
    assert report.with_sentence(f"{said} More.", results()) == f"{report.sentence(results())} More."


def test_a_sentence_that_names_a_module_is_found_again() -> None:
    """make bench leaves an old sentence in README, because the dot of torch.nn ends it."""
    given = slow(results(), "torch_nn", 0.2)
    for name, row in place(given, cell="GRU", regime="vanishing", dtype="float64")["contenders"].items():
        row["median_ms"] = {"ours": 10.0, "torch_nn": 95.0}.get(name, 99.0)
    said = report.sentence(given)
    assert said.count("torch.nn") == 2
    assert report.with_sentence(f"Before. {said} After.", results()) == f"Before. {report.sentence(results())} After."


def test_a_core_that_was_shared_is_said_to_be() -> None:
    """The page hides that other programs ran beside the benchmark."""
    given = results()
    assert "other programs had the core" not in report.page(given)
    place(given, **LSTM)["contenders"]["jax_scan"]["threads"] = 0.26
    assert "It fell to 0.26: other programs had the core in between." in report.page(given)


def test_growth_in_the_exploding_regime_is_that_of_the_results() -> None:
    """The page says a growth that these networks do not have."""
    given = results()
    for entry in given["grid"]:
        entry["decades"] = [0.0, 0.3 * entry["length"]]
    place(given, **LSTM)["decades"] = [0.0, 0.5 * place(given, **LSTM)["length"]]
    assert "the gradient grows by 2.0 to 3.2 a step" in report.page(given)


def test_results_name_no_paths() -> None:
    said = json.dumps(run.machine("cpu"))
    assert str(Path.home()) not in said and str(report.ROOT) not in said


def test_a_run_without_avx512_is_judged_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that may not use AVX-512 is held to the targets of one that does."""
    monkeypatch.setattr(run, "_cpuinfo", lambda what: "avx2 avx512f" if what == "flags" else "a processor")
    assert run.machine("cpu")["instructions"] == "AVX-512"
    for name, value in run.AVX2.items():
        monkeypatch.setenv(name, value)
    assert run.machine("cpu")["instructions"] == "AVX2"
    monkeypatch.delenv("OPENBLAS_CORETYPE")
    monkeypatch.setattr(run, "_cpuinfo", lambda what: "avx2")
    assert run.machine("cpu")["instructions"] == "AVX2"


def test_no_gpu_ends_with_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device"):
        run._need_cuda()


def test_who_cannot_be_kept_to_avx2_is_left_out_of_the_narrow_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside everybody else's AVX2 its AVX-512 would be another machine."""
    wide, narrow = Contender("wide", "Wide", (), narrows=False), Contender("narrow", "Narrow", ())
    monkeypatch.setattr(peers, "every", lambda: ([wide, narrow], {}))
    monkeypatch.setattr(peers, "narrow", lambda: False)
    assert peers.load() == ([wide, narrow], {})
    monkeypatch.setattr(peers, "narrow", lambda: True)
    found, missing = peers.load()
    assert found == [narrow]
    page = report.page(results(), {**results(), "missing": missing})
    assert "`wide` was not run: no setting keeps its products to AVX2." in page
