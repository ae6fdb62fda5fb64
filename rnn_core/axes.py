"""How a setting describes itself: one ``axis(...)`` per field of ``Experiment``.

From it follow the check of the value, the config schema, the Parquet column and the label in figures.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

from rnn_core.choices import FIELD_ALIASES, nearest, nearest_value, unknown
from rnn_core.scalars import as_python, is_integer, is_number

Fields = TypeVar("Fields")


@dataclass(frozen=True)
class Axis:
    """One field of an experiment.

    Attributes:
        kind: ``choice``, ``name``, ``integer``, ``number``, ``flag`` (true or false) or ``rule`` (a clipping rule).
        meaning, unit, label: for the schema, the column and the figures.
        choices: allowed values of a ``choice``, names of the rules of a ``rule``.
        minimum, maximum: smallest and largest allowed number; ``above`` and ``below`` are bounds that are themselves not allowed.
        unset: what None means; empty where None is not allowed.
        training: it acts on training alone. Nothing that is measured at the start depends on it.
        checked: which values of a sweep an engine check must see: ``all``, both ``ends``, or any one, the ``first``.
        built_in: why only a built-in cell has it, and a user's own has None; empty if every cell has it.
        cells: the cells that have it; empty if all have.
        later: it came when runs were kept already. A run that leaves it at its default, or at None, keeps the key that it had.
    """

    kind: str
    meaning: str
    unit: str
    label: str
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    above: float | None = None
    below: float | None = None
    unset: str = ""
    training: bool = False
    checked: str = "all"
    built_in: str = ""
    cells: tuple[str, ...] = ()
    later: bool = False

    def check(self, name: str, value: Any) -> None:
        """Refuse a value that is not allowed.

        Raises:
            ValueError: naming the field, the value, what is allowed and, for a name, the nearest one.
        """
        if value is None and self.unset:
            return
        if self.kind in ("choice", "name", "rule"):
            self._check_name(name, value)
        elif not (isinstance(as_python(value), bool) if self.kind == "flag" else self._allows_number(value)):
            raise ValueError(f"{name}: {value!r} is not allowed; it must be {self.article()}")

    def _check_name(self, name: str, value: Any) -> None:
        if not isinstance(value, str):
            near = nearest_value(name, value, self.choices)
            hint = f". Did you mean {near!r}?" if near else ""
            raise ValueError(f"{name}: {value!r} is not allowed; it must be {self.article()}{hint}")
        if self.kind == "choice" and value not in self.choices:
            raise ValueError(unknown(name, value, self.choices))

    def _allows_number(self, value: Any) -> bool:
        if not (is_integer(value) if self.kind == "integer" else is_number(value)):
            return False
        number = as_python(value)
        return not (
            (self.minimum is not None and number < self.minimum)
            or (self.maximum is not None and number > self.maximum)
            or (self.above is not None and number <= self.above)
            or (self.below is not None and number >= self.below)
        )

    def article(self) -> str:
        """What is allowed: ``a number above 0``."""
        if self.kind in ("choice", "name", "rule"):
            return "a name"
        if self.kind == "flag":
            return "True or False"
        noun = "an integer" if self.kind == "integer" else "a number"
        if self.maximum is not None:
            return f"{noun} from {self.minimum} to {self.maximum}"
        if self.minimum is not None and self.below is not None:
            return f"{noun} from {self.minimum} to below {self.below:g}"
        if self.minimum is not None:
            return f"{noun} of at least {self.minimum}"
        if self.above is not None and self.below is not None:
            return f"{noun} above {self.above:g} and below {self.below:g}"
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
        elif self.kind == "flag":
            schema = {"type": "boolean"}
        else:
            schema = {"type": self.kind}
            if self.minimum is not None:
                schema["minimum"] = self.minimum
            if self.maximum is not None:
                schema["maximum"] = self.maximum
            if self.above is not None:
                schema["exclusiveMinimum"] = self.above
            if self.below is not None:
                schema["exclusiveMaximum"] = self.below
        return schema


def axis(default: Any, kind: str, meaning: str, unit: str, label: str, **limits: Any) -> Any:
    """A dataclass field that carries its ``Axis``."""
    if isinstance(limits.get("choices"), Iterable):
        limits["choices"] = tuple(limits["choices"])
    limits["cells"] = tuple(limits.get("cells", ()))
    return field(default=default, metadata={"axis": Axis(kind, meaning, unit, label, **limits)})


def described_by_axes(cls: type[Fields]) -> type[Fields]:
    """Complete a dataclass whose fields all are axes.

    Its docstring lists the fields. A field that it does not have is refused with the nearest name. Its signature shows
    names and defaults alone.
    """
    listed = "\n".join(f"    {name}: {_described(each, default)}" for name, each, default in _axes_of(cls))
    cls.__doc__ = (
        (cls.__doc__ or "").rstrip().replace("\n    Raises:", f"\n    Attributes:\n{_indented(listed)}\n\n    Raises:")
    )
    original = cls.__init__
    names = frozenset(name for name, *_ in _axes_of(cls))

    @functools.wraps(original)
    def init(self: Any, *args: Any, **values: Any) -> None:
        if not names.issuperset(values):
            raise TypeError(_unknown_field(cls, next(name for name in values if name not in names)))
        original(self, *args, **values)

    init.__doc__ = "Check every field; see the class."
    signature = inspect.signature(original)
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    init.__signature__ = inspect.Signature(bare)  # type: ignore[attr-defined]
    cls.__init__ = init  # type: ignore[method-assign]
    return cls


def _unknown_field(cls: Any, name: str) -> str:
    """What to say of a field that ``cls`` does not have."""
    names = [each for each, *_ in _axes_of(cls)]
    near = nearest(name, names, FIELD_ALIASES)
    hint = f" Did you mean {near!r}?" if near else ""
    return f"{cls.__name__} has no field {name!r}; it has {', '.join(names)}.{hint}"


def _axes_of(cls: Any) -> list[tuple[str, Axis, Any]]:
    return [(each.name, each.metadata["axis"], each.default) for each in fields(cls) if each.default is not MISSING]


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _described(described: Axis, default: Any) -> str:
    """Meaning, unit, what is allowed and the default, as a line of a docstring."""
    unit = "" if described.unit in ("1", "name", "rule", "true/false") else f"; unit: {described.unit}"
    names = f"one of {', '.join(described.choices)}" if described.kind == "choice" else described.article()
    rules = f"none, or one of {', '.join(c for c in described.choices if c != 'none')} with its threshold above 0, as norm:1.0"
    unset = f", or None: {described.unset}" if described.unset else ""
    return f"{described.meaning}{unit}; {rules if described.kind == 'rule' else names}{unset}; default {default!r}."
