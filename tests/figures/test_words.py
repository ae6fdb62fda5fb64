"""Numbers in words, order and colours, and the captions."""

import importlib
import math
import re
from html import escape
from pathlib import Path

import pytest

from study.report import drawing, reader, style, words
from tests.figures.drawn import render

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflow" / "scripts"
FIGURES = sorted(path.stem for path in (SCRIPTS / "figures").glob("[!_]*.py"))
LEAD_INS = ["What it shows.", "How to read it.", "What would refute it."]


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 6, "0"), (1.5, 6, "1.5"), (1.125, 6, "1.125"), (0.1 + 0.2, 6, "0.3"), (100.0, 6, "100"),
        (-363.14, 3, "−363"), (2909.0, 2, "2900"), (0.000512, 2, "0.00051"),
        (3.44e-14, 2, "3.4 × 10⁻¹⁴"), (-2e-9, 3, "−2 × 10⁻⁹"), (1e6, 2, "1 × 10⁶"),
        (math.inf, 3, "∞"), (-math.inf, 3, "−∞"),
    ],
)  # fmt: skip
def test_number(value: float, digits: int, text: str) -> None:
    assert words.number(value, digits) == text


def test_words() -> None:
    assert [words.power(x) for x in (-362.9, 0.5, 0.0)] == ["10⁻³⁶³", "3.2", "1"]
    assert words.spoken("10⁻³⁶³ to 10⁷⁰") == "10 to the power of −363 to 10 to the power of 70"
    assert words.listed(["a"]) == "a" and words.listed(["a", "b", "c"]) == "a, b and c"
    assert words.plural(1, "run") == "1 run" and words.plural(0, "run") == "0 runs"
    assert words.percent(0.126) == "13 %" and words.signed(0.5) == "+0.5" and words.signed(-0.5) == "−0.5"


def test_rules_have_an_order_and_a_colour_each() -> None:
    rules = ["value:0.1", "norm:0.1", "none", "norm:1.0", "norm:1.0"]
    assert words.ordered("clipping", rules) == ["none", "norm:1.0", "norm:0.1", "value:0.1"]
    assert words.ordered("truncation", [5.0, float("nan"), 2.0]) == [None, 2.0, 5.0]
    colours = style.rule_colours(rules)
    assert colours == style.rule_colours(reversed(rules)) and len(set(colours.values())) == 4
    assert words.threshold("none") is None and words.threshold("norm:1.0e-2") == 0.01


def test_a_marked_number_keeps_its_address_through_text_and_html() -> None:
    """What a reader sees is the text; what a program reads is where it comes from."""
    text = (
        f"about {words.marked('1.2 < 3', 'outcome', 1.2345, sweep='a_b', clipping='norm:1.0', truncation=None)} & more"
    )
    assert words.plain(text) == "about 1.2 < 3 & more"
    [(shown, address)] = words.addresses(text)
    assert (shown, address["kind"], address["value"]) == ("1.2 < 3", "outcome", 1.2345)
    assert address["where"] == {"sweep": "a_b", "clipping": "norm:1.0", "truncation": None}
    html = words.html(text)
    assert html.startswith('about <data value="1.2345" data-kind="outcome"') and html.endswith(
        "1.2 &lt; 3</data> &amp; more"
    )
    rendered = sf_caption(text)
    assert "1.2 &lt; 3</data>" in rendered and "system-message" not in rendered


def sf_caption(claim: str) -> str:
    """A claim as the page has it in a caption: through RST and then to HTML."""
    from docutils.core import publish_parts

    return words.html(publish_parts(claim, writer="html5")["body"], escape=False)


@pytest.mark.parametrize(
    "radii", [[1.0], [0.5], [2.0], [0.9, 1.1], [0.5, 0.9, 1.0, 1.1, 2.0], [0.1 * i for i in range(1, 30)]]
)
def test_radii_are_blue_below_one_and_orange_above(radii: list[float]) -> None:
    colours = style.radius_colours(radii)
    for radius in radii:
        if radius != 1.0:
            red, _, blue = colours[radius][:3]
            assert (blue > red) == (radius < 1)
    assert len({tuple(colours[r]) for r in radii}) == len(radii)


def test_every_figure_has_a_caption_and_every_caption_a_figure() -> None:
    assert {path.stem for path in (SCRIPTS / "figures").glob("*.rst")} == set(FIGURES)


@pytest.mark.parametrize("figure", FIGURES)
def test_captions_read_well_where_nothing_in_particular_is_shown(figure: str) -> None:
    html = render(figure, facts=drawing.facts("A title.", "alt"))
    assert re.findall("<strong>(.*?)</strong>", html) == LEAD_INS and html.count("<p>") == 3


@pytest.mark.parametrize("figure", FIGURES)
def test_captions_carry_what_holds_for_this_study(figure: str, study: reader.Tables) -> None:
    module = importlib.import_module(f"figures.{figure}")
    facts = module.facts(module.frame(study), study.study)
    full = render(figure, facts={**facts, "claims": [words.plain(claim) for claim in facts["claims"]]})
    assert facts["claims"] or figure in ("radius_length_map", "entry_sizes")  # whose titles say all
    for claim in facts["claims"]:
        assert escape(words.plain(claim), quote=False) in full.replace("\n", " ")
    assert re.findall("<strong>(.*?)</strong>", full) == LEAD_INS and full.count("<p>") == 3
    odd = drawing.facts("A title.", "alt", [r"The task my\_task\_ did it."])
    assert "my_task_" in render(figure, facts=odd)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"truncation": None}, "full gradient"),
        ({"truncation": 10.0}, "truncation window = 10"),
        ({"activation": "tanh", "input_size": None}, "tanh (the task's own D)"),
        ({"cell": "gru", "residual_step": None}, "gru"),
        ({"loss_at": None, "truncation": math.nan}, "the task's own loss steps (full gradient)"),
    ],
)
def test_what_is_left_unset_has_a_name_beside_values(settings: dict[str, object], name: str) -> None:
    """A grid may hold null beside values; "all networks" named the half of them that had none."""
    assert words.name_of(settings) == name


def test_what_is_zero_but_for_rounding_is_written_as_zero() -> None:
    """The page said "highest for identity (orthogonal), −2 × 10⁻¹⁵", and −0.0 in its table."""
    assert words.decimals(-1e-13, 1) == "0.0" and words.decimals(-0.04, 0) == "0" and words.decimals(-0.06, 1) == "−0.1"
    assert words.number(words.unrounded(-2e-15)) == "0" and words.unrounded(-2e-9) == -2e-9


def test_a_plural_has_no_symbol() -> None:
    """The page said "of the three weight scale σ_ws"."""
    plurals = [
        words.plural_of(axis) for axis in ("weight_scale", "chrono", "forget_bias", "hidden_size", "learning_rate")
    ]
    assert plurals == ["weight scales", "values of T_max", "forget biases", "hidden sizes", "learning rates"]
