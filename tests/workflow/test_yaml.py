"""What YAML itself gets wrong, or lets pass, is said with file and line; and a config cannot run code."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.config import reader
from tests.support.study_project import ROOT
from tests.support.study_project import copy as copy_project

REFUSED = [
    # content, what the message holds besides the file's name
    (b"", ["is empty", "a study needs"]),
    (b"# only a comment\n", ["is empty"]),
    (b"- 1\n- 2\n", ["no keys at its top level"]),
    (b"a: 1\nb: [1, 2\nc: 3\n", ["line 3", "not valid YAML"]),
    (b"a:\n\tb: 1\n", ["line 2", "tab", "indent with spaces"]),
    (b"a: norm: 1.0\n", ["line 1", "needs quotes"]),
    (b"a: 1\nb:\n  c: 1\n  c: 2\n", ["lines 3 and 4", "b.c stands there twice"]),
    (b"sweeps: {one: 1, two: 2, one: 3}\n", ["sweeps.one stands there twice"]),
    (b"- {}\n", ["no keys"]),
    (b'{"a": 1, "a": 2}', ["a stands there twice"]),
    (b"a: 1\n---\nb: 2\n", ["line 2", "another document"]),
    (b"a: \xff\n", ["not UTF-8"]),
    ("a: 1".encode("utf-16"), ["not UTF-8"]),
    (b"a: !!python/object/apply:os.system [echo hi]\n", ["line 1", "plain values only"]),
    (b"__use_yte__: true\nstudy: x\n", ["line 1", "__use_yte__ is not allowed", "cannot run code"]),
    (b"study: x\n__definitions__: [import os]\n", ["line 2", "cannot run code"]),
    (b"a: &x\n  b: *x\n", ["line 1", "without end"]),
    (b"? [1, 2]\n: 3\n", ["a key must be a word"]),
    (b"a: 010\n", ["line 1", "YAML reads 010 as 8"]),
    (b"a: 1:30\n", ["line 1", "YAML reads 1:30 as 90"]),
    (b"a: 1:30.5\n", ["line 1", "YAML reads 1:30.5 as 90.5"]),
    (b"a: 2026-13-45\n", ["looks like a date"]),
    (b"a: " + b"[" * 3000 + b"]" * 3000, ["nested too deeply"]),
]


@pytest.mark.parametrize(("content", "expected"), REFUSED, ids=[str(content[:30]) for content, _ in REFUSED])
def test_what_is_wrong_with_a_file_is_one_sentence_with_its_name_and_line(
    tmp_path: Path, content: bytes, expected: list[str]
) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(reader.ReadError) as error:
        reader.read(tmp_path / "mine.yaml")
    for part in ["mine.yaml", *expected]:
        assert part in str(error.value)


def test_aliases_of_aliases_end(tmp_path: Path) -> None:
    """Nine lines that mean a thousand million values."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(reader.ReadError, match="without end"):
        reader.read(tmp_path / "bomb.yaml")


@pytest.mark.parametrize(("name", "message"), [("none.yaml", "does not exist"), (".", "cannot be read")])
def test_a_file_that_is_none_is_named(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(reader.ReadError, match=message):
        reader.read(tmp_path / name)


def test_a_file_that_is_not_there_names_what_may_be_meant(tmp_path: Path) -> None:
    """`--configfile mine.yaml raport` reads the target as a second config."""
    (tmp_path / "mine.yaml").write_text("a: 1")
    with pytest.raises(reader.ReadError, match=r"mine\.yml does not exist\. Did you mean 'mine\.yaml'\?"):
        reader.read(tmp_path / "mine.yml")
    with pytest.raises(reader.ReadError, match=r"raport does not exist\. A target stands before --configfile"):
        reader.read(tmp_path / "raport")
    with pytest.raises(reader.ReadError, match=r"x\.yaml does not exist$"):
        reader.read(tmp_path / "nowhere" / "x.yaml")


def test_values_are_those_of_yaml_and_lines_those_of_the_file(tmp_path: Path) -> None:
    text = "\ufeffa: &x {b: 1}\n\n# c\nc:\n  <<: *x\n  d:\n    - 1.5\n    - null\n"
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    found = reader.read(tmp_path / "mine.yaml")
    assert found.values == {"a": {"b": 1}, "c": {"b": 1, "d": [1.5, None]}}
    assert [reader.line_of(found, path) for path in [("a",), ("c",), ("c", "d"), ("c", "d", 1), ("c", "e"), ("x",)]] == [1, 4, 6, 8, 4, None]  # fmt: skip


@given(st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace")))
def test_no_file_is_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("any") / "any.yaml"
    file.write_bytes(content)
    try:
        reader.read(file)
    except reader.ReadError as error:
        assert "any.yaml" in str(error)


@pytest.mark.workflow
@pytest.mark.parametrize("profile", ["default", "gpu", "slurm"])
def test_a_config_of_a_strangers_runs_no_code(tmp_path: Path, profile: str) -> None:
    """Snakemake executes such a file before the workflow is read; the profile is read before both."""
    project = copy_project(tmp_path / "project")
    touched = tmp_path / "touched"
    text = (ROOT / "studies" / "tiny.yaml").read_text(encoding="utf-8")
    code = f"__use_yte__: true\n__definitions__:\n  - import pathlib\n  - pathlib.Path({str(touched)!r}).touch()\n"
    (project.root / "stranger.yaml").write_text(code + text, encoding="utf-8")
    given_profile = ["--workflow-profile", f"workflow/profiles/{profile}"] if profile != "default" else []
    done = project.snakemake("-n", *given_profile, "--configfile", "stranger.yaml", check=False)
    assert done.returncode != 0
    assert "stranger.yaml, line 1: __use_yte__ is not allowed" in done.stdout + done.stderr
    assert not touched.exists()


@pytest.mark.workflow
def test_where_the_profile_is_another_the_code_is_said_to_have_run(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    text = (ROOT / "studies" / "tiny.yaml").read_text(encoding="utf-8")
    (project.root / "stranger.yaml").write_text("__use_yte__: true\n" + text, encoding="utf-8")
    done = project.snakemake("-n", "--workflow-profile", "none", "--configfile", "stranger.yaml", check=False)
    assert done.returncode != 0
    assert "SNAKEMAKE HAS RUN ITS CODE ALREADY" in done.stdout + done.stderr


def test_every_profile_hands_the_configs_to_the_guard() -> None:
    texts = [
        file.read_text(encoding="utf-8") for file in sorted((ROOT / "workflow" / "profiles").glob("*/config.yaml"))
    ]
    guards = {text.partition("__use_yte__")[2] for text in texts}
    assert len(texts) == 3
    assert len(guards) == 1
    assert "config_guard.install()" in guards.pop()


@pytest.mark.workflow
def test_command_lines_that_give_a_config_in_parts(tmp_path: Path) -> None:
    """A single key by --config changes the default study; two files are no study; a file without the known keys is refused."""
    project = copy_project(tmp_path / "project")
    assert "results/mine/" in project.snakemake("-n", "--quiet", "progress", "--config", "study=mine").stdout
    for arguments, message in [
        (["--configfile", "studies/tiny.yaml", "studies/cells.yaml"], "A study is one config file, and more were given: tiny.yaml, cells.yaml"),
        (["--configfile", "title.yaml"], "title.yaml has"),
        (["--config", "device=GPU"], "The command line (--config) has a mistake:\n  device: 'GPU' is not known"),
        (["--config", "lr=0.1"], "lr: no such key"),
        (["--config", "lr"], "--config: 'lr' is not allowed; write KEY=VALUE"),
        (["--config", "study=mine", "=0.1"], "--config: '=0.1' is not allowed; write KEY=VALUE"),
    ]:  # fmt: skip
        (project.root / "title.yaml").write_text("title: Mine\ndevice: cpu\n", encoding="utf-8")
        done = project.snakemake("-n", *arguments, check=False)
        said = done.stdout + done.stderr
        assert done.returncode != 0
        assert message in said, said
        assert "Traceback" not in said
        assert "common.smk" not in said


@pytest.mark.workflow
def test_a_users_file_may_lie_beside_the_config_and_the_call_elsewhere(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    (tmp_path / "mine").mkdir()
    (project.root / "studies" / "data" / "waves.csv").rename(tmp_path / "mine" / "waves.csv")
    text = (project.root / "studies" / "tiny.yaml").read_text(encoding="utf-8")
    (tmp_path / "mine" / "tiny.yaml").write_text(text.replace("studies/data/waves.csv", "waves.csv"), encoding="utf-8")
    beside = ["-n", "--configfile", str(tmp_path / "mine" / "tiny.yaml")]
    assert "80 sequences" in project.snakemake(*beside).stdout
    (tmp_path / "results").mkdir()
    assert "80 sequences" in project.snakemake(*beside, "--directory", str(tmp_path / "results")).stdout
    (tmp_path / "mine" / "waves.csv").unlink()
    done = project.snakemake(*beside, check=False)
    assert "the file does not exist (looked for in this folder, in the project's and beside the config)" in done.stdout
