"""The benchmark of many runs at once: it refuses wrong numbers, and its page says what its file holds."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from benchmarks import check, many_gpu


def test_ours_is_checked_before_it_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark of something else than the engine computes."""
    works = many_gpu.repeated([many_gpu.make(16, "float64", seed, 20, 4, "cpu:0") for seed in range(3)], 5)
    ours = many_gpu.Ours(works, "cpu:0")
    assert many_gpu.worst_of("ours", ours.read(ours()), many_gpu.expected_of(works), "float64") < 1e-12
    ours.params["weight_hh"] *= 1.001
    with pytest.raises(check.WrongNumbers, match="ours: a relative error of"):
        many_gpu.worst_of("ours", ours.read(ours()), many_gpu.expected_of(works), "float64")


def test_the_page_says_what_the_file_holds() -> None:
    """A ratio of other rows, or a goal that is called met."""
    results: dict[str, Any] = json.loads(many_gpu.RESULTS.read_text(encoding="utf-8"))
    lines = many_gpu.section(results)
    assert lines == many_gpu.section() and lines[0].endswith(results["device"])
    row = next(each for each in results["engine"] if (each["dtype"], each["hidden_size"]) == ("float64", 64))
    ours = min(each["us"] for each in row["ours"].values())
    column = results["engine"].index(row) + 1
    [ratio] = [line.split("|")[column + 1] for line in lines if line.startswith("| **cuDNN")]
    assert ratio.strip() == f"**{row['torch_rnn']['us'] / ours:.1f}**"
    told = next(line for line in lines if line.startswith("| lstm | 512 |"))
    [update] = [each for each in results["training"] if (each["cell"], each["hidden_size"]) == ("lstm", 512)]
    assert told.split("|")[-2].strip() == f"{update['cpu_ms'] / update['gpu_ms']:.2g}"
    slow = copy.deepcopy(results)
    for each in slow["engine"]:
        for time in each["ours"].values():
            time["us"] *= 1e3
    assert "150: met" in "\n".join(lines) and "150: not met" in "\n".join(many_gpu.section(slow))
    assert not [word for line in lines for word in ("None", "nan") if word in line]
