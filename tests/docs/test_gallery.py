"""The gallery: its sentences can be read, and one study can be written anew without the others."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.page.reading import count_words, sentences_of

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "gallery.md"
MOST_WORDS, MOST_SPOKEN = (
    30,
    50,
)  # of a sentence under a figure; of one that is read to somebody, names and numbers included


@pytest.fixture
def gallery() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "docs" / "hooks" / "gallery.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SECTIONS = {
    re.findall("Config: `(.*)`", text)[0]: text
    for text in re.split(r"(?m)^(?=## )", PAGE.read_text(encoding="utf-8"))[1:]
}


def lines(section: str, pictures: bool) -> list[str]:
    """Paragraphs of a section, or the alternative texts of its pictures."""
    found = [
        re.sub(r"^!\[(.*)\]\(images.*\)$", r"\1", line)
        for line in section.splitlines()
        if line.startswith("![") == pictures
    ]
    return [line for line in found if line and not line.startswith("#")]


@pytest.mark.parametrize("config", SECTIONS)
def test_its_sentences_can_be_read_in_one_breath(config: str) -> None:
    """A sentence about success in three panels had eighty words, and an alternative text of twelve panels had 140."""
    said, spoken = lines(SECTIONS[config], False), lines(SECTIONS[config], True)
    assert said and spoken
    long = [each for line in said for each in sentences_of(line) if count_words(each) > MOST_WORDS]
    long += [each for line in spoken for each in sentences_of(line) if len(each.split()) > MOST_SPOKEN]
    assert not long, long


def test_one_study_is_written_anew_and_the_others_stay(
    gallery: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing one study loses the sections of the others, or their pictures."""
    page, pictures = tmp_path / "gallery.md", tmp_path / "images"
    pictures.mkdir()
    before = PAGE.read_text(encoding="utf-8")
    page.write_text(before, encoding="utf-8")
    for name in ("cliff_cliff.webp", "cliff_old.webp", "gates_growth_rate.webp"):
        (pictures / name).write_text("")
    asked: list[Any] = []

    def write(config: str) -> list[str]:
        asked.append(config)
        return ["## A cliff", "", f"Config: `{config}`.", ""]

    for name, value in {"PAGE": page, "PICTURES": pictures, "write": write}.items():
        monkeypatch.setattr(gallery, name, value)
    gallery.main(["studies/cliff.yaml"])
    after = page.read_text(encoding="utf-8")
    assert asked == ["studies/cliff.yaml"] and sorted(p.name for p in pictures.iterdir()) == ["gates_growth_rate.webp"]
    assert after.count("\n## ") == before.count("\n## ") and "## A cliff\n" in after
    kept = [part for part in re.split(r"(?m)^(?=## )", before) if "studies/cliff.yaml" not in part]
    assert all(part.strip() in after for part in kept[1:])


def test_its_studies_are_run_before_it_is_written(gallery: ModuleType) -> None:
    """A study that the page has, and `make gallery` does not run, ends it after an hour."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile[makefile.index("\ngallery:") : makefile.index("\nlock:")]
    assert tuple(re.findall(r"config\.yaml|studies/\w+\.yaml", recipe)) == gallery.STUDIES == tuple(SECTIONS)
