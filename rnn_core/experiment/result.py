"""What one run measured, and how it shows itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnn_core.choices import nearest
from rnn_core.experiment.settings import Experiment


@dataclass(frozen=True, repr=False)
class Result:
    """What one run measured. ``print(result)`` shows the main values and the names of all columns.

    ``result["growth_rate"]`` looks a name up in ``summary``, ``updates`` and ``traces``, in this order.

    Attributes:
        traces: norms by time step, {column: values}. The first axis is recorded update × t, with t = 1 … T.
        updates: what every update did, {column: values}. The first axis is the update.
        summary: what there is once in a run, {name: value}: growth rate, regime, theory, held-out loss …
        experiment: what was run.
        layers: of several layers or directions, norms by time step of every one, {column: values}. The first axis is recorded update ×
            layer × direction × t. Of a single one nothing: ``traces`` is all. Of several, ``traces`` and ``summary`` are about the last
            layer, forward.
    """

    traces: dict[str, np.ndarray]
    updates: dict[str, np.ndarray]
    summary: dict[str, Any]
    experiment: Experiment | None = None
    layers: dict[str, np.ndarray] = field(default_factory=dict)

    def keys(self) -> list[str]:
        """All names, those of ``summary`` first, each once."""
        return list(dict.fromkeys([*self.summary, *self.updates, *self.traces]))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __getitem__(self, name: str) -> Any:
        for columns in (self.summary, self.updates, self.traces):
            if name in columns:
                return columns[name]
        near = nearest(name, self.keys())
        hint = f"; did you mean {near!r}?" if near else ""
        raise KeyError(f"{name!r} was not measured{hint} (keys() lists all names)")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        near = nearest(name, self.keys())
        hint = f"; did you mean result[{near!r}]?" if near else ", and keys() lists what was measured"
        raise AttributeError(f"Result has no attribute {name!r}{hint}")

    def __repr__(self) -> str:
        """One line: the run, its main values, and the size of its tables."""
        e = self.experiment
        layers = f"L={e.layers}, " if e is not None and (e.layers or 1) > 1 else ""
        layers += "bidirectional, " if e is not None and e.bidirectional else ""
        run = "" if e is None else f"{e.cell} {e.activation}, {layers}H={e.hidden_size}, T={e.sequence_length}; "
        values = ", ".join(self._growth() + self._loss() + self._breakdown())
        return f"Result({run}{values}; traces {_size(self.traces)}, updates {_size(self.updates)})"

    def __str__(self) -> str:
        """The run, its main values, and the names of all columns."""
        lines = {
            "run": repr(self.experiment) if self.experiment else "",
            "growth": ", ".join(self._growth()),
            "loss": ", ".join(self._loss()),
            "broken": ", ".join(self._breakdown()),
            "summary": ", ".join(self.summary),
            f"updates, {_size(self.updates)}": ", ".join(self.updates),
            f"traces, {_size(self.traces)}": ", ".join(self.traces),
            f"layers, {_size(self.layers)}": ", ".join(self.layers),
        }
        return "\n".join(f"{name}: {text}" for name, text in lines.items() if text)

    def _growth(self) -> list[str]:
        """The measured rate with its error, what theory predicts, and the regime."""
        s, words = self.summary, []
        if _is_value(s.get("growth_rate")):
            error = f" ± {s['growth_rate_error']:.2g}" if _is_value(s.get("growth_rate_error")) else ""
            words.append(f"growth_rate={s['growth_rate']:.4g}{error} ln per step")
        if _is_value(s.get("predicted_rate")):
            words.append(f"predicted_rate={s['predicted_rate']:.4g}")
        if _is_value(s.get("regime")):
            words.append(f"regime={s['regime']}")
        return words

    def _loss(self) -> list[str]:
        """The loss of the first update; after training also of the last, and of held-out sequences."""
        loss, s = self.updates.get("loss", np.zeros(0)), self.summary
        words = [f"loss={loss[0]:.4g}{f' to {loss[-1]:.4g}' if len(loss) > 1 else ''}"] if len(loss) else []
        if _is_value(s.get("held_out_loss")):
            words.append(f"held_out_loss={s['held_out_loss']:.4g}")
        if _is_value(s.get("solved")):
            words.append(f"solved={s['solved']}")
        return words

    def _breakdown(self) -> list[str]:
        """Where a number was not finite, if one was."""
        names = ("first_nonfinite_update", "first_nonfinite_step")
        return [f"{name}={self.summary[name]}" for name in names if _is_value(self.summary.get(name))]


def _is_value(value: Any) -> bool:
    """Whether a run measured it: None and nan say that it did not."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _size(table: dict[str, np.ndarray]) -> str:
    """Rows × columns."""
    return f"{len(next(iter(table.values()), ()))}×{len(table)}"
