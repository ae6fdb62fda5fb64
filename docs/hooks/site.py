"""What the site needs besides Markdown: formulas as MathML, and pages that stand elsewhere in the project.

Formulas are converted while the site is built: no JavaScript, no network, and a mistake in a formula ends the build. MathML needs
a font with mathematical metrics. Few systems have one, so the site carries STIX Two Math, which comes with the package ziamath.
"""

from __future__ import annotations

import html
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from math_core import LatexError, LatexToMathML
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent.parent
FONT = "assets/STIXTwoMath-Regular.ttf"
# Pages whose text stands where readers of the code look for it.
ELSEWHERE = {
    "derivation.md": "rnn_core/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
_TO_DOCS = re.compile(r"\]\((?:\.\./)?docs/")
# What pymdownx.arithmatex leaves: \(…\) within a line, \[…\] on lines of its own.
_INLINE = re.compile(r'<span class="arithmatex">\\\((.+?)\\\)</span>', re.DOTALL)
_DISPLAY = re.compile(r'<div class="arithmatex">\s*\\\[(.+?)\\\]\s*</div>', re.DOTALL)
_CONVERTER = LatexToMathML(fancy_error=False)


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the font and the pages of ``ELSEWHERE`` to the site's files; their links into docs/ are links between pages."""
    package = find_spec("ziamath")  # not imported: that takes a second, and only the font is wanted
    assert package and package.origin, "ziamath is missing: make installs requirements-dev.txt"
    font = Path(package.origin).parent / "fonts" / Path(FONT).name
    files.append(File.generated(config, FONT, content=font.read_bytes()))
    for page, source in ELSEWHERE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_TO_DOCS.sub("](", text)))
    return files


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Replace every formula of a page's HTML by MathML.

    Raises:
        PluginError: a formula holds a command that is not known.
    """

    def mathml(formula: re.Match[str], display: bool) -> str:
        latex = html.unescape(formula[1]).strip()
        try:
            return str(_CONVERTER.convert_with_local_state(latex, displaystyle=display))
        except LatexError as error:
            raise PluginError(f"{page.file.src_uri}: the formula {latex!r}: {error}") from error

    content = _DISPLAY.sub(lambda m: f'<div class="formula">{mathml(m, True)}</div>', content)
    return _INLINE.sub(lambda m: mathml(m, False), content)
