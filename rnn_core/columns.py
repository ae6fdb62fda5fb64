"""How a measured quantity describes itself, as ``axes.py`` does for a setting.

A ``Column`` stands directly above the code that fills it. From it follow the column of a Parquet table and the documentation
of the tables. The engine knows nothing of file formats: it names a kind, and whoever writes a table maps kinds to types.
"""

from __future__ import annotations

from dataclasses import dataclass

from rnn_core.choices import unknown

OWN_CELL = "a cell of the user's own"  # where a quantity is not known
NO_MATRIX = f"{OWN_CELL}, or a cell without W_hh"
KINDS = ("integer", "number", "flag", "name")


@dataclass(frozen=True)
class Column:
    """One measured quantity.

    Attributes:
        name: of the column, and of the entry in a ``Result``.
        kind: ``integer``, ``number``, ``flag`` (true or false) or ``name``.
        unit: of a dimensionless number ``1``.
        meaning: what is measured, in a sentence.
        null: when there is no value; empty if there always is one. A run records None then, or nan for a number.
        asked: the name by which it must be asked for, as it costs something; empty if it is always measured.

    Raises:
        ValueError: the kind is not one of the four.
    """

    name: str
    kind: str
    unit: str
    meaning: str
    null: str = ""
    asked: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(unknown(f"kind of column {self.name}", self.kind, KINDS))
