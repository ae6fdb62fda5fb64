"""What a probe draws, on axes that the caller brings: the engine itself imports no plotting library.

Where none are given, new ones come from ``matplotlib.pyplot``, if the caller has imported it, as every notebook with figures has.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"  # Okabe & Ito: seen apart with any colour vision
COLOURS, STYLES = (BLUE, ORANGE, GREEN), ("-", "--", ":", "-.")
FORMATS = {"float32": GREEN, "bfloat16": BLUE, "float16": ORANGE}


def new_axes(count: int) -> list[Any]:
    """New matplotlib axes, side by side.

    Raises:
        RuntimeError: ``matplotlib.pyplot`` has not been imported.
    """
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        raise RuntimeError("plot: import matplotlib.pyplot first, or give matplotlib axes: probe.plot(axes)")
    _, axes = pyplot.subplots(1, count, figsize=(4.6 * count, 3.4), layout="constrained", squeeze=False)
    return list(axes[0])


def draw_traces(probe: Any, axes: Any) -> Any:
    """log10 of the norm of the gradient of every part of the state that goes back, step by step."""
    t, samples = np.arange(1, len(probe.log10_grad_norm) + 1), probe.log10_grad_norm_samples
    for b in range(min(samples.shape[1], 16) if samples.shape[1] > 1 else 0):
        label = f"{probe.growth_of}, single sequences" if b == 0 else None
        axes.plot(t, _finite(samples[:, b]), color=GREY, linewidth=0.6, alpha=0.5, label=label)
    drawn = [name for name, norms in probe.log10_grad_norms.items() if np.isfinite(norms).sum() > 1]
    for i, name in enumerate(drawn):
        style = {"color": COLOURS[i % len(COLOURS)], "linestyle": STYLES[i % len(STYLES)]}
        axes.plot(t, _finite(probe.log10_grad_norms[name]), label=name, **style)
    axes.axvspan(probe.window.start + 1, probe.window.stop, color=GREY, alpha=0.12, linewidth=0)
    axes.set_xlabel("step t")
    axes.set_ylabel("log$_{10}$ of the gradient's norm")
    what = f"{probe.growth_of}: {probe.regime or 'not finite'}"
    axes.set_title(f"{what}, ln {probe.growth.rate:+.4f} per step back (shaded)", fontsize="medium")
    _legend(axes)
    return axes


def draw_lost(probe: Any, axes: Any) -> Any:
    """Which part of the gradient's entries narrower formats would lose, step by step."""
    t = np.arange(1, len(probe.log10_grad_norm) + 1)
    for name, colour in FORMATS.items() if probe.lost else ():
        for kind, style in (("flushed", "-"), ("overflowed", "--")):
            fraction = probe.lost[f"{name}_{kind}"]
            if fraction.any():
                axes.plot(
                    t,
                    100 * fraction,
                    color=colour,
                    linestyle=style,
                    label=f"{name}, {'to zero' if kind == 'flushed' else 'overflow'}",
                )
    axes.set_xlabel("step t")
    axes.set_ylabel("entries lost (%)")
    axes.set_ylim(-3, 103)
    axes.set_title("What narrower formats lose", fontsize="medium")
    if axes.lines:
        _legend(axes)
    else:
        axes.text(0.5, 0.5, "nothing" if probe.lost else "not known", transform=axes.transAxes, ha="center", color=GREY)
    return axes


def draw_spectrum(probe: Any, axes: Any) -> Any:
    """The Lyapunov exponents that are known, the largest first."""
    exponents = np.asarray(probe.spectrum.exponents)
    axes.axhline(0.0, color=GREY, linewidth=0.8)
    axes.plot(np.arange(1, len(exponents) + 1), _finite(exponents), color=BLUE, marker="o", markersize=3)
    axes.set_xlabel("index i")
    axes.set_ylabel("Lyapunov exponent (ln per step)")
    axes.set_title("How single directions grow", fontsize="medium")
    return axes


def draw_inputs(trace: Any, axes: Any) -> Any:
    """log10 ‖dL/dx_t‖ step by step; where no pass holds it, a grey field."""
    t = np.arange(1, len(trace.log10_grad_norm_x) + 1)
    axes.plot(t, _finite(trace.log10_grad_norm_x), color=BLUE)
    unknown = t[~trace.known]
    if unknown.size:
        axes.axvspan(unknown[0], unknown[-1], color=GREY, alpha=0.2, linewidth=0)
        axes.text(
            0.5 * (unknown[0] + unknown[-1]),
            0.5,
            "beyond one pass",
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="center",
            rotation=90,
            color=GREY,
        )
    axes.set_xlabel("step t")
    axes.set_ylabel(r"log$_{10}$ ‖dL/dx$_t$‖")
    axes.set_title("Gradient of the inputs, not of a hidden state", fontsize="medium")
    return axes


def _legend(axes: Any) -> None:
    axes.legend(fontsize="small", framealpha=0.9, edgecolor="none")


def _finite(values: np.ndarray) -> np.ndarray:
    """With gaps where a norm is zero or unknown."""
    return np.where(np.isfinite(values), values, np.nan)
