"""What the tests of figures share: settings of synthetic runs, and a figure's artists and caption."""

import itertools
from pathlib import Path
from types import ModuleType
from typing import Any

import docutils.core
import docutils.utils
import jinja2
from matplotlib.axes import Axes

import study_figures as sf

REPORT = Path(__file__).parents[2] / "workflow" / "report"
Settings = dict[str, Any]
PROPAGATION = {"task": "white_noise", "loss_at": "last", "updates": 0, "clipping": "none"}
TRAINING = {
    "task": "digits",
    "loss_at": "last",
    "updates": 8,
    "sequence_length": 6,
    "clipping": "none",
    "learning_rate": 0.3,
}


def grid(**axes: Any) -> list[Settings]:
    """Every combination; a list is an axis, anything else one value."""
    values = [value if isinstance(value, list) else [value] for value in axes.values()]
    return [dict(zip(axes, combination, strict=True)) for combination in itertools.product(*values)]


def show(module: ModuleType, tables: sf.Tables) -> tuple[Any, sf.Facts, list[Axes]]:
    """Frame, facts and the axes of a figure."""
    data = module.frame(tables)
    with sf.theme():
        figure = module.draw(data)
        figure.draw_without_rendering()
    return data, module.facts(data), figure.axes


def lines(axes: Axes, gid: str) -> list[Any]:
    return [line for line in axes.lines if line.get_gid() == gid]


def render(figure: str, **variables: Any) -> str:
    """A caption's HTML; a problem in the RST is an error."""
    source = (REPORT / f"{figure}.rst").read_text(encoding="utf-8")
    text = jinja2.Template(source, undefined=jinja2.StrictUndefined).render(**variables)
    settings = {"halt_level": docutils.utils.Reporter.INFO_LEVEL, "report_level": docutils.utils.Reporter.SEVERE_LEVEL}
    html = docutils.core.publish_parts(text, writer="html5", settings_overrides=settings)["body"]
    assert "System Message" not in html and "problematic" not in html and "{" not in html
    return str(html)
