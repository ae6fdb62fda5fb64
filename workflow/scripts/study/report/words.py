"""Numbers, settings and lists in words; and numbers that say where they come from.

A number on the page carries its address: what it is (``kind``), its value, and the rows that it was computed from.
``marked`` puts the address into the text, in characters that no text uses. ``plain`` takes it out again.
``html`` turns it into a ``<data>`` element.
"""

from __future__ import annotations

import html as markup
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from rnn_core import CELLS
from rnn_core.clipping import RULES
from rnn_core.experiment import SEPARATOR
from study.settings import described_axes

_OPEN, _BAR, _CLOSE = "\ue000", "\ue001", "\ue002"  # private use: found in no text
_MARKED = re.compile(f"{_OPEN}([0-9a-f]*){_BAR}([^{_OPEN}{_CLOSE}]*){_CLOSE}")
_SUPERSCRIPT = str.maketrans("-.0123456789", "⁻·⁰¹²³⁴⁵⁶⁷⁸⁹")
ROUNDING = 1e-12  # ln per step
OF_ALL = "The headline is of all values, drawn or not."
LONGEST_TITLE = 140  # letters of a headline
_SPELLED = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

# A value that says which setting it is
PLAIN_AXES = ("task", "cell", "activation", "dtype", "initializer", "optimizer")


# ---- numbers with an address


def marked(text: str, kind: str, value: float, **where: Any) -> str:
    """``text`` with its address: the number's kind, its unrounded value, and the settings of the rows it was computed from."""
    address = {"kind": kind, "value": float(value), "where": {name: _plain_value(v) for name, v in where.items()}}
    return f"{_OPEN}{json.dumps(address).encode().hex()}{_BAR}{text}{_CLOSE}"


def marked_count(count: int, kind: str, **where: Any) -> str:
    """A whole number with its address."""
    return marked(str(count), kind, count, **where)


def _plain_value(value: Any) -> Any:
    """A NumPy scalar as Python's, nan and NA as None."""
    if isinstance(value, list | tuple):
        return [_plain_value(each) for each in value]
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def plain(text: str) -> str:
    """The text alone."""
    return _MARKED.sub(lambda match: match[2], text)


def addresses(text: str) -> list[tuple[str, dict[str, Any]]]:
    """(text, address) of every marked number."""
    return [(match[2], json.loads(bytes.fromhex(match[1]))) for match in _MARKED.finditer(text)]


def html(text: str, escape: bool = True) -> str:
    """The text as HTML; a marked number is a ``<data>`` element, and pointing at it says what it is.

    ``escape=False`` for what is HTML already.
    """
    escaped = markup.escape if escape else str
    pieces, end = [], 0
    for match in _MARKED.finditer(text):
        pieces.append(escaped(text[end : match.start()]))
        pieces.append(_data_element(escaped(match[2]), json.loads(bytes.fromhex(match[1]))))
        end = match.end()
    return "".join([*pieces, escaped(text[end:])])


def _data_element(shown: str, address: dict[str, Any]) -> str:
    where = ", ".join(f"{name} = {value}" for name, value in address["where"].items())
    about = f"{address['kind'].replace('_', ' ')}: {address['value']:.6g}" + (f" ({where})" if where else "")
    where_json = markup.escape(json.dumps(address["where"], ensure_ascii=False))
    return (
        f'<data value="{address["value"]!r}" data-kind="{address["kind"]}" data-where="{where_json}" '
        f'title="{markup.escape(about)}">{shown}</data>'
    )


# ---- words for numbers


def number(value: float, digits: int = 6) -> str:
    """``digits`` significant digits, with a true minus: 0.0034, −363, 3.4 × 10⁻¹⁴, ∞."""
    value = value + 0.0  # −0 is 0
    if math.isfinite(value) and (value == 0 or 1e-4 <= abs(value) < 1e6):
        decimals = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
        text = f"{round(value, decimals):.{max(0, decimals)}f}"
        return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")
    if not math.isfinite(value):
        return str(value).replace("inf", "∞").replace("-", "−")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.').replace('-', '−')} × {_ten_to(int(exponent))}"


def signed(value: float, digits: int = 6) -> str:
    """As ``number``, with a plus where it is positive."""
    return ("+" if value > 0 else "") + number(value, digits)


def unrounded(rate: float) -> float:
    """A rate per step without what rounding leaves of zero: a linear network with an orthogonal matrix grows by 0, not by 2 × 10⁻¹⁵."""
    return 0.0 if abs(rate) < ROUNDING else rate


def decimals(value: float, places: int) -> str:
    """``places`` digits after the point, with a true minus: 1.20. What rounds to zero has no sign."""
    text = f"{value:.{places}f}"
    return (text.removeprefix("-") if float(text) == 0 else text).replace("-", "−")


def power(log10: float) -> str:
    """10⁻¹²³ for −123.4, 10⁻⁹·⁵ for −9.5; small changes as plain factors: 3.2 for 0.5."""
    if not math.isfinite(log10):
        return "0" if log10 < 0 else number(log10)
    if abs(log10) < 2:
        return number(10.0**log10, 2)
    return _ten_to(round(log10)) if abs(log10) >= 20 else _ten_to(f"{log10:.1f}".removesuffix(".0"))


def _ten_to(exponent: int | str) -> str:
    return "10" + str(exponent).translate(_SUPERSCRIPT)


def spoken(text: str) -> str:
    """For screen readers: 10⁻³ as 10 to the power of −3."""
    plain_digits = str.maketrans("⁻·⁰¹²³⁴⁵⁶⁷⁸⁹", "−.0123456789")
    return re.sub("10([⁻·⁰¹²³⁴⁵⁶⁷⁸⁹]+)", lambda match: f"10 to the power of {match[1].translate(plain_digits)}", text)


def percent(fraction: float) -> str:
    """0.123 as 12 %."""
    return f"{round(100 * fraction):d} %".replace("-", "−")


def plural(count: int, noun: str) -> str:
    """1 run, 2 runs."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def whole(count: int) -> str:
    """both, all 12: a count that is the whole of at least two."""
    return "both" if count == 2 else f"all {count}"


def spelled(count: int) -> str:
    """two, three; numerals from eleven."""
    return _SPELLED[count] if 0 <= count < len(_SPELLED) else str(count)


def listed(words: Iterable[str], last: str = "and") -> str:
    """a, b and c; where a word holds a comma of its own: a, b; c; and d."""
    *head, tail = words
    if any("," in re.sub(r"\([^)]*\)", "", plain(word)) for word in [*head, tail]) and head:
        return f"{'; '.join(head)}; {last} {tail}"
    return f"{', '.join(head)} {last} {tail}" if head else tail


def few(words: Iterable[str], most: int = 4, last: str = "and") -> str:
    """All of them, or the first ones and how many more."""
    known = list(words)
    if len(known) <= most:
        return listed(known, last)
    more = len(known) - most + 1
    return listed([*known[: most - 1], f"{spelled(more)} more" if more < len(_SPELLED) else "many more"], last)


def itemized(phrases: Iterable[str]) -> str:
    """What stands behind a colon: two phrases with and, more with semicolons."""
    known = list(phrases)
    return listed(known) if len(known) < 3 else "; ".join(known)


def capital(text: str) -> str:
    """The first letter of a sentence as a capital; a name that begins it, and a marked number, stay. So does a symbol: ε is no Ε."""
    return text[:1].upper() + text[1:] if text[:1].isascii() else text


def beginning(axis: str, names: str) -> str:
    """Names of an axis' values that begin a sentence: relu stays as it is written in code, a label in words gets a capital."""
    return names if axis in PLAIN_AXES else capital(names)


def uncapital(text: str) -> str:
    """The first letter small, for what does not begin a sentence."""
    return text[:1].lower() + text[1:]


# ---- settings in words, and their order

# What it means that a setting is not set, where it means something
UNSET = {"truncation": "full gradient", "input_size": "the task's own D", "loss_at": "the task's own loss steps"}
# What a value means that its number or name does not say: a remedy of size zero is none
MEANT: dict[tuple[str, Any], str] = {
    ("clipping", "none"): "no clipping",
    ("omega", 0.0): "no Ω",
    ("flossing", 0): "no flossing",
    ("weight_decay", 0.0): "no weight decay",
    ("loss_at", "last"): "loss at the last step",
    ("loss_at", "every"): "loss at every step",
    ("bidirectional", False): "one direction",
    ("bidirectional", True): "bidirectional",
}
COUNTED = {"flossing": "flossing", "updates": "training"}  # what takes so many updates
DIRECTION = "direction"  # of a bidirectional network: no setting, but figures have a panel for each
SWEEP = "sweep"  # no setting either: it names what no setting of its own tells from another sweep


def named(axis: str, value: Any) -> str:
    """A setting in a name: tanh, H = 8, η = 0.1, no clipping, flossing for 200 updates."""
    if value is None or pd.isna(value):
        return "no chrono biases" if axis == "chrono" else UNSET.get(axis, f"no {described_axes()[axis]['label']}")
    if (axis, value) in MEANT:
        return MEANT[axis, value]
    if axis == DIRECTION:
        return f"{value} direction"
    if axis == SWEEP:
        return f"sweep {value}"
    if axis in COUNTED:
        return f"{COUNTED[axis]} for {plural(int(value), 'update')}"
    if axis in PLAIN_AXES or axis == "clipping":
        return str(value).replace(SEPARATOR, " ") if axis == "cell" else str(value)
    label = described_axes()[axis]["label"]
    *_, last = label.split()
    symbol = last if last == "σ_w" or (len(last) == 1 and (last.isupper() or not last.isascii())) else label
    return f"{symbol} {value}" if isinstance(value, str) else f"{symbol} = {number(value)}"


def value_of(axis: str, value: Any) -> str:
    """A setting's value alone, below the axis' name; a dash where it is not set because the network has none, or another in its place."""
    if axis not in UNSET and pd.isna(value):
        return "–"
    plain_number = not (isinstance(value, str) or pd.isna(value) or axis == "bidirectional")
    return number(value) if plain_number else named(axis, value)


def name_of(settings: Mapping[str, Any], first: str = "") -> str:
    """Settings as one name that can stand in a list: tanh (orthogonal, H = 64).

    Another cell's setting that is not set names nothing, unless it is all that there is. ``first`` leads; without it the cell does, then whatever comes first.
    """
    known = {axis: value for axis, value in settings.items() if axis in UNSET or not pd.isna(value)}
    if settings and not known:
        return listed(named(axis, None) for axis in settings)
    lead = next((axis for axis in (first, "cell", "activation") if axis in known), "")
    inside = sorted(known, key=lambda axis: (axis != lead, axis not in PLAIN_AXES))
    return in_brackets([named(axis, known[axis]) for axis in inside])


def in_brackets(words: list[str]) -> str:
    """residual (η = 0.1, λ = 0)."""
    if not words:
        return "all networks"
    return words[0] + (f" ({', '.join(words[1:])})" if len(words) > 1 else "")


def unbracketed(name: str) -> str:
    """A name that can stand in brackets: tanh, ρ = 1 of tanh (ρ = 1)."""
    return name.removesuffix(")").replace(" (", ", ", 1) if " (" in name else name


def singular_of(axis: str) -> str:
    """What one value of an axis is called: cell, learning rate."""
    irregular = {
        "clipping": "clipping rule",
        "dtype": "floating-point type",
        "bidirectional": "number of directions",
        "flossing": "number of flossing updates",
        "updates": "number of updates",
        "loss_at": "place of the loss",
        "success_below": "threshold of success",
    }
    return irregular.get(axis, str(described_axes()[axis]["label"]))


def plural_of(axis: str) -> str:
    """What several values of an axis are called: cells, learning rates."""
    irregular = {
        "spectral_radius": "spectral radii",
        "chrono": "values of T_max",
        "flossing_exponents": "numbers of flossed exponents",
        "layers": "numbers of layers",
        "weight_decay": "values of weight decay",
        "omega": "weights of Ω",
        "cell_options": "variants",
    }
    noun, of, what = singular_of(axis).partition(" of ")
    *words, last = noun.split()
    stem = " ".join(words) if words and (len(last) == 1 or "_" in last) else noun  # without σ_w, or T_max
    return irregular.get(axis, (f"{stem}es" if stem.endswith(("s", "x")) else f"{stem}s") + of + what)


def in_order(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Sorted by these settings: cells from the simplest, rules from none, the rest by value; what is not set comes first."""
    return rows.sort_values(
        by,
        key=lambda column: (
            column.map(lambda value: place_of(column.name, value)) if column.name in ("cell", "clipping") else column
        ),
        na_position="first",
    )


def place_of(axis: str, value: Any) -> tuple[Any, ...]:
    """What a value of an axis is sorted by."""
    if pd.isna(value):
        return (-1,)
    if axis == "cell":
        return (list(CELLS).index(value) if value in CELLS else len(CELLS), *_parts(value))
    if axis == "clipping":
        kind = kind_of(value)
        return (list(RULES).index(kind) if kind in RULES else len(RULES), kind, -(threshold(value) or 0.0))
    return (0, value)


def _parts(name: str) -> list[tuple[bool, float, str]]:
    """A name in the parts that it is sorted by: state_size=4 stands before state_size=16, and bias=-2.0 before bias=0.0."""
    pieces = re.findall(r"(?:(?<==)-)?\d+(?:\.\d+)?(?:e[+-]?\d+)?|=|[^\d=]+", name)
    return [(part[-1].isdigit(), float(part) if part[-1].isdigit() else 0.0, part) for part in pieces]


def ordered(axis: str, values: Iterable[Any]) -> list[Any]:
    """The distinct values of an axis in their order."""
    distinct = {None if pd.isna(value) else value for value in values}
    return sorted(distinct, key=lambda value: place_of(axis, value))


def kind_of(rule: str) -> str:
    """norm of ``norm:1.0``."""
    return rule.partition(":")[0]


def threshold(rule: str) -> float | None:
    """1.0 of ``norm:1.0``; None of ``none``."""
    return float(rule.partition(":")[2]) if ":" in rule else None
