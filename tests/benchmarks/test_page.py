"""The page and the figure say what results.json says, and admit what is not met."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import figure, report, run, targets


def contender(label: str, median: float) -> dict[str, Any]:
    return {
        "label": label, "trace": True, "form": "only", "runs": 1, "relative_error": 1e-13, "compile_seconds": None,
        "median_ms": median, "lower_quartile_ms": median * 0.9, "upper_quartile_ms": median * 1.1, "rounds": 7, "threads": 1.0,
    }  # fmt: skip


def results(ratio: float, fraction: float, sweep: float = 5.0) -> dict[str, Any]:
    """Of a run in which everything has this ratio and this fraction."""
    single = [
        {
            "dtype": dtype, "hidden_size": H, "product": {"gflops": 50.0, "by": "NumPy", "all": {"NumPy": 50.0}},
            "contenders": {"ours": contender("rnn_core", 10.0), "numpy_loop": contender("NumPy by hand, row-major", 10.0 * ratio)},
            "best_peer": "numpy_loop", "ours_vs_best_peer": ratio, "ours_vs_each": {"numpy_loop": ratio},
            "fraction_of_product_rate": {"ours": fraction, "numpy_loop": fraction / ratio},
        }
        for dtype in ("float64", "float32") for H in targets.RATIO
    ]  # fmt: skip
    part = {
        "best_peer": "numpy_loop", "ours_vs_best_peer": sweep,
        "contenders": {"ours": contender("", 1000.0), "numpy_loop": contender("", 1000.0 * sweep)},
    }  # fmt: skip
    setting = {"lengths": 6, "clipping": ["none"] * 4, "radii": 8, "hidden_size": 64, "dtype": "float64"}
    machine = {"processor": "a processor", "cores": 2, "device": "one thread", "fast_path": "compiled", "versions": {"numpy": "2"}}  # fmt: skip
    return {
        "machine": machine,
        "missing": {"jax_scan": "jax is not installed"},
        "single": single,
        "sweep": {"runs": 192, "setting": setting, "engine": part, "whole": part},
        "minutes": 1.0,
    }


def test_the_page_says_met() -> None:
    page = report.page(results(ratio=3.0, fraction=0.9))
    assert "22 of 22 targets are met" in page
    assert "not met" not in page.lower()
    assert "jax is not installed" in page


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (results(1.5, 0.9), "| float64, H = 64 | ours vs best peer | 1.500 | 2.00 |"),
        (results(3.0, 0.5), "| float32, H = 512 | fraction of the matrix-product rate | 0.500 | 0.80 |"),
        (results(3.0, 0.9, sweep=3.9), "| sweep, whole runs | ours vs best peer | 3.900 | 4.00 |"),
    ],
)
def test_the_page_says_not_met(given: dict[str, Any], said: str) -> None:
    page = report.page(given)
    assert said in page
    assert "Not met" in page and ": not met" in page


def test_a_ratio_just_below_its_target_is_not_met() -> None:
    assert targets.verdict(1.999, 2.0) == "not met"
    assert targets.verdict(2.0, 2.0) == "met"


def test_the_headline_admits_sizes_at_which_we_are_behind() -> None:
    given = results(3.0, 0.9)
    given["single"][0]["ours_vs_best_peer"] = 0.8
    assert "behind the best peer at 1 of 10 sizes" in figure.headline(given)


def test_the_figure_draws_every_contender_and_target() -> None:
    given = results(3.0, 0.9)
    drawn = figure.draw(given)
    gids = [line.get_gid() for ax in drawn.axes for line in ax.get_lines()]
    assert gids.count("target") == 20
    assert gids.count("numpy_loop") == 4 and gids.count("ours") == 2


def test_page_and_figure_are_written_from_the_results_alone(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(results(3.0, 0.9)))
    for name in ("a", "b"):
        report.write(tmp_path / "results.json", tmp_path / f"{name}.md", tmp_path / f"{name}.png")
    for kind in ("md", "png"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_the_page_in_docs_is_that_of_the_results() -> None:
    if not report.RESULTS.exists():
        pytest.skip("make bench has not been run")
    gpu = json.loads(report.RESULTS_GPU.read_text()) if report.RESULTS_GPU.exists() else None
    assert report.PAGE.read_text(encoding="utf-8") == report.page(json.loads(report.RESULTS.read_text()), gpu)


def test_results_name_no_paths() -> None:
    said = json.dumps(run.machine("cpu"))
    assert str(Path.home()) not in said and str(report.ROOT) not in said


def test_no_gpu_ends_with_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device"):
        run._need_cuda()
