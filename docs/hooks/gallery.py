"""Write docs/gallery.md and its pictures from the results of studies: ``make gallery``. With configs as arguments, only of these.

A picture is the figure's PNG as WebP; its words are those of the report. The studies named in ``STUDIES`` were run before.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from study.report.words import plain

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "gallery.md"
PICTURES = ROOT / "docs" / "images"
STUDIES = (
    "config.yaml",
    "studies/cells.yaml",
    "studies/gates.yaml",
    "studies/isometry.yaml",
    "studies/memory_curse.yaml",
    "studies/depth.yaml",
    "studies/cliff.yaml",
    "studies/remedies.yaml",
    "studies/long_memory.yaml",
    "studies/pascanu_2013.yaml",
    "studies/ten_thousand.yaml",
)
LEFT_OUT = {  # figures that show in another study what an earlier one has shown
    "cells": {"engine_checks", "training_traces", "clipping_norms"},
    "isometry": {"engine_checks", "gradient_norm_by_step"},
    "cliff": {"engine_checks", "growth_rate"},
    "remedies": {"engine_checks", "gradient_norm_by_step", "growth_rate"},
    "long_memory": {"engine_checks", "gradient_norm_by_step", "growth_rate", "training_traces"},
    "pascanu_2013": {"engine_checks", "training_traces", "clipping_norms"},
    "ten_thousand": {"engine_checks", "gradient_norm_by_step"},
    "gates": {"engine_checks", "gradient_norm_by_step", "radius_length_map"},
    "memory_curse": {"engine_checks", "gradient_norm_by_step", "growth_rate"},
    "depth": {"engine_checks", "gradient_norm_by_step"},
}
WIDTH = 1100  # pixels; the text of a figure is then as large as that of the page


def write(config_file: str) -> list[str]:
    """Write the pictures of one study; return its section of the page, as lines.

    Raises:
        FileNotFoundError: the study was not run, or not with this config's figures.
    """
    config = yaml.safe_load((ROOT / config_file).read_text(encoding="utf-8"))
    study = config["study"]
    lines = [f"## {config['title']}", "", config["question"].strip(), "", f"Config: `{config_file}`.", ""]
    for figure in config["figures"]:
        source = ROOT / "results" / study / "figures" / figure
        facts = json.loads(source.with_suffix(".json").read_text(encoding="utf-8"))
        if figure in LEFT_OUT.get(study, ()) or not facts["drawn"]:
            continue
        picture = PICTURES / f"{study}_{figure}.webp"
        _shrink(source.with_suffix(".png"), picture)
        lines += _figure(figure, picture, facts)
    return lines


def _figure(figure: str, picture: Path, facts: dict[str, Any]) -> list[str]:
    """Heading, picture and caption; the picture has the figure's headline."""
    alt = re.sub(r"\s+", " ", plain(facts["alt"])).replace("]", ")").replace("[", "(")
    heading = [f"### {figure.replace('_', ' ').capitalize()}", "", f"![{alt}](images/{picture.name})", ""]
    return heading + ([" ".join(plain(claim) for claim in facts["claims"]), ""] if facts["claims"] else [])


def _shrink(source: Path, target: Path) -> None:
    """The PNG as WebP, no wider than the page."""
    with Image.open(source) as picture:
        flat = Image.new("RGB", picture.size, "white")
        flat.paste(picture, mask=picture.getchannel("A") if "A" in picture.getbands() else None)
    height = round(flat.height * WIDTH / flat.width)
    flat.resize((WIDTH, height), Image.Resampling.LANCZOS).save(target, "WEBP", quality=70, method=6)


def _kept_sections() -> dict[str, list[str]]:
    """By config, the sections of the page as it is."""
    sections = re.split(r"(?m)^(?=## )", PAGE.read_text(encoding="utf-8"))[1:]
    return {re.findall("Config: `(.*)`", text)[0]: [*text.rstrip().splitlines(), ""] for text in sections}


def main(only: Sequence[str] = ()) -> None:
    """All studies, one after the other; or ``only`` these configs, and the other sections as the page has them."""
    PICTURES.mkdir(exist_ok=True)
    kept = _kept_sections() if only else {}
    for config_file in only or STUDIES:
        for old in PICTURES.glob(f"{Path(config_file).stem if config_file != 'config.yaml' else 'default'}_*.webp"):
            old.unlink()
    introduction = [
        "# Gallery",
        "",
        "Written by `make gallery` from the results of the studies named below; do not edit.",
        "",
        "Each figure stands in a study's report, with these words. `make report CONFIG=…` with the config named makes it on your machine.",
        "",
    ]
    written = {config_file: write(config_file) for config_file in only or STUDIES}
    sections = [line for config_file in STUDIES for line in {**kept, **written}[config_file]]
    PAGE.write_text("\n".join([*introduction, *sections]).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
