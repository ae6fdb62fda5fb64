"""Which settings have a dynamic theory, and which job samples which. A function of the config alone, as the plan is.

The theory is that of an infinitely wide network with Gaussian weights and white inputs (``rnn_core.theory.dynamic_rate``). It takes
seconds a setting, and every seed of a setting shares it. Vanilla cells have a theory that needs no sampling.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping
from typing import Any

from rnn_core import CELLS
from rnn_core.tasks import GENERATED
from study.plan import Settings, as_list
from study.settings import axis_defaults

# Options of the cells that dynamic theory knows: a step of theirs multiplies the state by independent weights.
_OPTIONS = [f"{name}_{option}" for name, cell in CELLS.items() if cell.outer_products for option in cell.options]
# What the theory of a run depends on; the seeds are averaged over.
SETTING = (
    "cell", "activation", *_OPTIONS, "initializer", "spectral_radius", "weight_scale", "forget_bias", "chrono", "flossing", "hidden_size",
    "input_scale", "task", "input_correlation",
)  # fmt: skip
MOST = 100  # settings of a study; of one with more none is sampled, so that it does not spend its time here
UNITS = 4000  # that are sampled: half of what a notebook gets, and still more exact than networks of a hundred units can tell
SECONDS_OF_GATE = (
    0.1  # processor time of a setting for each gate, measured with this many units; and as much again once
)
MEMORY_MB = 400.0  # of a job, measured: an LSTM's 200 steps
TOGETHER = 5.0  # predicted seconds of one job, about


def sampled_settings(config: Mapping[str, Any]) -> list[Settings]:
    """Every setting with a dynamic theory, sweep by sweep, with ``sweep`` and ``seeds``; none if there are more than ``MOST``."""
    settings: list[Settings] = []
    defaults = axis_defaults()
    for sweep, described in config["sweeps"].items():
        if 1 not in as_list(described["grid"].get("layers", 1)):  # the states of a layer below are no white inputs
            continue
        values = [as_list(described["grid"].get(axis, defaults[axis])) for axis in SETTING]
        for point in itertools.product(*values):
            setting = dict(zip(SETTING, point, strict=True))
            if setting["weight_scale"] is not None:
                setting["spectral_radius"] = None  # as in the run
            if has_theory(setting):
                settings.append({"sweep": sweep, "seeds": described["seeds"], **setting})
                if len(settings) > MOST:
                    return []
    return settings


def has_theory(setting: Mapping[str, Any]) -> bool:
    """Whether the theory covers it: an own cell of the engine other than vanilla, Gaussian weights as drawn, white inputs."""
    known = setting["cell"] in CELLS and setting["cell"] != "vanilla" and setting["initializer"] == "gaussian"
    known = (
        known and not setting["flossing"] and CELLS[setting["cell"]].outer_products
    )  # else W_hh is made of fewer numbers, and is no such matrix
    white = (
        setting["task"] in GENERATED and GENERATED[setting["task"]].white_inputs and not setting["input_correlation"]
    )
    return known and white


def seconds_of(setting: Mapping[str, Any]) -> float:
    """Processor time of one setting."""
    return SECONDS_OF_GATE * (1 + len(CELLS[setting["cell"]].gates))


def sampling_jobs(config: Mapping[str, Any]) -> dict[str, list[Settings]]:
    """Group -> the settings that one job samples.

    A setting's group follows from itself, and the number of groups is a power of two. So a grown axis leaves most groups as they are.
    """
    settings = sampled_settings(config)
    seconds, groups = sum(map(seconds_of, settings)), 1
    while seconds > groups * TOGETHER and groups < len(settings):
        groups *= 2
    jobs: dict[str, list[Settings]] = {}
    for setting in settings:
        number = zlib.crc32(repr(sorted(setting.items())).encode()) % groups
        jobs.setdefault(f"{number + 1}-of-{groups}", []).append(setting)
    return jobs
