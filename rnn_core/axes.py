"""What may stand in a field of ``Experiment``: one description from which the check, the config schema, the Parquet column and
the axis label all follow."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rnn_core.choices import unknown


@dataclass(frozen=True)
class Axis:
    """One field of an experiment.

    Attributes:
        kind: ``choice``, ``name``, ``integer``, ``number`` or ``rule`` (a clipping rule).
        meaning, unit, label: for the schema, the column and the figures.
        choices: allowed values of a ``choice``, names of the rules of a ``rule``.
        minimum, maximum: smallest and largest allowed number; ``above`` is a bound that is itself not allowed.
        unset: what None means; empty where None is not allowed.
    """

    kind: str
    meaning: str
    unit: str
    label: str
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    above: float | None = None
    unset: str = ""

    def check(self, name: str, value: Any) -> None:
        """ValueError naming the key, the value and what is allowed."""
        if value is None and self.unset:
            return
        if self.kind in ("choice", "name", "rule"):
            if not isinstance(value, str):
                raise ValueError(f"{name}: {value!r} is not allowed; it must be a name")
            if self.kind == "choice" and value not in self.choices:
                raise ValueError(unknown(name, value, self.choices))
            return
        allowed = (int,) if self.kind == "integer" else (int, float)
        if isinstance(value, bool) or not isinstance(value, allowed) or not math.isfinite(value):
            raise ValueError(f"{name}: {value!r} is not allowed; it must be {self._article()}")
        too_small = self.minimum is not None and value < self.minimum
        too_large = self.maximum is not None and value > self.maximum
        if too_small or too_large or (self.above is not None and value <= self.above):
            raise ValueError(f"{name}: {value!r} is not allowed; it must be {self._article()}")

    def _article(self) -> str:
        noun = "an integer" if self.kind == "integer" else "a number"
        if self.maximum is not None:
            return f"{noun} from {self.minimum} to {self.maximum}"
        if self.minimum is not None:
            return f"{noun} of at least {self.minimum}"
        return f"{noun} above {self.above:g}" if self.above is not None else noun

    def json_schema(self) -> dict[str, Any]:
        """The JSON schema of one value."""
        schema: dict[str, Any]
        if self.kind == "choice":
            schema = {"enum": list(self.choices)}
        elif self.kind == "rule":
            number = r"(?=[^eE]*[1-9])([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)?"
            schema = {
                "type": "string",
                "pattern": f"^(none|({'|'.join(c for c in self.choices if c != 'none')}):{number})$",
            }
        elif self.kind == "name":
            schema = {"type": "string"}
        else:
            schema = {"type": self.kind}
            if self.minimum is not None:
                schema["minimum"] = self.minimum
            if self.maximum is not None:
                schema["maximum"] = self.maximum
            if self.above is not None:
                schema["exclusiveMinimum"] = self.above
        return schema


def axis(default: Any, kind: str, meaning: str, unit: str, label: str, **limits: Any) -> Any:
    """A dataclass field that carries its ``Axis``."""
    if isinstance(limits.get("choices"), Iterable):
        limits["choices"] = tuple(limits["choices"])
    return field(default=default, metadata={"axis": Axis(kind, meaning, unit, label, **limits)})
