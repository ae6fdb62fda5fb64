"""What to write instead of a value that YAML took for something else: a number in text, a set in braces, a word where a list belongs."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*(?::|\.\.+|…|–|-|to)\s*({_NUMBER})\s*(?:(?::|by|step)\s*({_NUMBER}))?\s*")
_KEYS_OF_A_RANGE = {"from", "to", "step"}
_CALL = re.compile(r"\s*(?:np\.|numpy\.|torch\.)?(?:linspace|arange|range|logspace|geomspace)\(.*\)\s*")


def list_of_a_set(given: object) -> str:
    """What is wrong with ``{relu, tanh}``, which YAML reads as keys without values; empty if it is something else."""
    if not isinstance(given, Mapping) or not given or any(value is not None for value in given.values()):
        return ""
    if set(given) <= _KEYS_OF_A_RANGE:
        return ""
    return f"these are keys without values; a list stands in brackets: [{', '.join(map(_as_yaml, given))}]"


def _as_yaml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) and ":" in value else str(value)


def as_list_text(given: object) -> str:
    """How to write a list, where one value was given or nothing."""
    if given is None:
        return "nothing stands there"
    if isinstance(given, bool):
        return "write its values in brackets, and [] for none"
    if isinstance(given, Mapping):
        return list_of_a_set(given) or "write its values in brackets"
    return f"write [{given}]"


def as_number(text: str) -> str:
    """How to write a number, or several, that YAML took for text."""
    if (match := _RANGE.fullmatch(text)) is not None:
        start, stop, step = match.groups()
        return f"write a range as {{from: {start}, to: {stop}, step: {step or '…'}}}"
    if _CALL.fullmatch(text):
        return "a config holds no code; write a list of values, or a range as {from: 0.5, to: 1.5, step: 0.25}"
    try:
        value = float(text)
    except ValueError:
        return _of_no_number(text)
    return (
        f"no quotes; YAML reads 1e-3 as text, write {_in_yaml(text, value)}"
        if "e" in text.lower()
        else f"no quotes; write {value:g}"
    )


def _in_yaml(text: str, value: float) -> str:
    """A number as YAML reads it as one: an exponent needs a point before it and a sign."""
    mantissa, _, exponent = text.strip().lower().partition("e")
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    sign = "" if exponent.startswith(("+", "-")) else "+"
    return f"{mantissa}e{sign}{exponent}" if exponent.lstrip("+-").isdigit() else f"{value:g}"


def _of_no_number(text: str) -> str:
    if re.fullmatch(r"\s*[+-]?[0-9]+,[0-9]+\s*", text):
        return f"write {text.strip().replace(',', '.')} with a decimal point, or a list: [{text.strip().replace(',', ', ')}]"
    if "," in text:
        return f"write a list, with decimal points: [{text.strip('[] ')}]"
    number, gigabytes = text[: len(text.rstrip("GgIiBb "))], text.lower().rstrip("ib ").endswith("g")
    if gigabytes and number.strip().replace(".", "", 1).isdigit():
        return f"write it in MiB, without the unit: {float(number) * 1024:g}"
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ% ")
    if digits != text and digits.replace(".", "", 1).isdigit():
        return f"write the number alone: {digits}"
    return "a number is written in digits"
