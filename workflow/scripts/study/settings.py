"""The settings of a run with kind, default, unit, label and meaning, as ``rnn_core.Experiment`` describes them."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

from rnn_core.experiment import Experiment, axes
from rnn_core.tasks import GENERATED

UNEQUAL = 0.01  # relative difference of baselines from which two tasks are not equally hard


@cache
def described_axes() -> dict[str, dict[str, Any]]:
    """Every setting, in order: name -> {kind, default, unit, label, meaning, unset, training, built_in, cells}.

    ``cells`` are those that have the setting; empty if all have it. ``built_in`` is not empty where a user's own cell has not.
    """
    defaults = {each.name: each.default for each in dataclasses.fields(Experiment)}
    return {
        name: {
            "kind": axis.kind,
            "default": defaults[name],
            "unit": axis.unit,
            "label": axis.label,
            "meaning": axis.meaning,
            "unset": axis.unset,
            "training": axis.training,
            "built_in": axis.built_in,
            "cells": axis.cells,
        }
        for name, axis in axes().items()
    }


def axis_defaults() -> dict[str, Any]:
    """The value of every setting that a sweep does not name."""
    return {name: axis["default"] for name, axis in described_axes().items()}


def steps_of(task: str, sequence_length: int) -> int:
    """Time steps of a sequence of a task: ``sequence_length``, and what the task adds."""
    return GENERATED[task].steps_of(sequence_length) if task in GENERATED else sequence_length


def axis_label(name: str) -> str:
    """How a figure names a setting, with its unit where it has one."""
    described = described_axes()[name]
    label, unit = str(described["label"]), described["unit"]
    counted = unit in ("steps", "updates", "units", "sequences") and unit not in label
    return f"{label} ({unit})" if counted else label
