"""Pages agree with the project: links lead somewhere, commands exist, code runs, every public name has its entry."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import yaml

import rnn_core as rc
from study.config.schema import schema
from study.data import intake, task_file
from study.tables.columns import columns_of

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "rnn_core" / "README.md", ROOT / "config" / "README.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
CONFIGS = [ROOT / "config.yaml", *sorted((ROOT / "studies").glob("*.yaml"))]


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def code_of(page: Path) -> list[str]:
    """The blocks of Python on a page that are no file of the reader's, and no rules of a workflow."""
    text = page.read_text(encoding="utf-8")
    blocks: list[str] = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [block for block in blocks if "\nmodule " not in block]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", h)).strip().lower().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """A reader on GitHub follows a link to a page or heading that is not there."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if file.name in ("derivation.md", "contributing.md", "changelog.md"):  # pages of the site that stand elsewhere
            file = ROOT / {"d": "rnn_core/README.md", "c": "CONTRIBUTING.md"}[file.name[0]]
        assert file.exists(), f"{target}: there is no {path}"
        assert not anchor or anchor in anchors(file), f"{target}: no heading of {name(file)} is called so"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist(page: Path) -> None:
    """A page names a make target, a config or an example that is not there."""
    text = page.read_text(encoding="utf-8")
    code = "\n".join(
        re.findall(r"`([^`\n]+)`", text) + re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    )
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for command in re.findall(r"\bmake ((?:[a-z-]+ ?)+)", re.sub(r"#.*", "", code)):
        assert set(command.split()) <= targets, command
    for config in re.findall(r"(?:CONFIG=|--configfile[ =])([\w./]+\.yaml)", code):
        assert config in ("mine.yaml", "studies/NAME.yaml") or (ROOT / config).exists(), config


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_exist(page: Path) -> None:
    """A page names a file or folder of the project that is not there."""
    tops = "rnn_core|workflow|docs|tests|studies|examples|benchmarks|verification|profiles"
    text = re.sub(
        r'^```\w+ title="[^"]+"\n.*?^```', "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    written = {"workflow/profiles/kubernetes/config.yaml"}  # the reader writes these
    for path in re.findall(rf"`((?:{tops})/[\w./-]*)`", text):
        assert (ROOT / path).exists() or path in written, path
    for test in re.findall(r"`(test_\w+\.py)`", text):
        assert list((ROOT / "tests").rglob(test)), test


@pytest.mark.parametrize("index", range(6))
def test_code_of_the_engines_page_runs(index: int) -> None:
    """A reader pastes a block of docs/engine.md and gets an error."""
    text = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
    code = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(code) == 6
    done = subprocess.run([sys.executable, "-c", code[index]], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_code_of_the_results_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page reads a column that the table does not have."""
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    columns = {column.name for column in columns_of("runs")}
    used = {"sweep", "activation", "spectral_radius", "growth_rate"}
    assert used <= columns
    table = tmp_path / "results" / "default" / "tables" / "runs.parquet"
    table.parent.mkdir(parents=True)
    rows = {
        "sweep": ["propagation"] * 2,
        "activation": ["tanh"] * 2,
        "spectral_radius": [1.0] * 2,
        "growth_rate": [0.1, 0.3],
    }
    pd.DataFrame(rows).to_parquet(table)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    *first, last = code.strip().splitlines()
    exec("\n".join(first), names)
    assert eval(last, names).tolist() == pytest.approx([0.2])


def test_code_of_the_data_page_runs(tmp_path: Path) -> None:
    """The page reads a study's sequences with a function that its module does not have."""
    (code,) = code_of(ROOT / "docs" / "data.md")
    config = yaml.safe_load((ROOT / "studies" / "tiny.yaml").read_text(encoding="utf-8"))
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    kept = tmp_path / "results" / "tiny" / "sequences"
    kept.mkdir(parents=True)
    read = intake.task_of("waves", config["sequences"]["waves"], ROOT)
    task_file.save_task(read, *(kept / f"waves.{kind}" for kind in ("npz", "txt", "json")))
    last = code.strip().splitlines()[-1].partition("  #")[0]
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint({last})"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == rc.Experiment(task="waves").key_with(
        rc.Sequences(**task_file.load(kept / "waves.npz")).digest
    )


@pytest.mark.parametrize("page", [page for page in PAGES if code_of(page)], ids=name)
def test_names_in_code_exist(page: Path) -> None:
    """A block of code, which no test runs, names something that its module does not have."""
    for code in code_of(page):
        nodes = list(ast.walk(ast.parse(code)))
        modules: dict[str, object] = {}
        for node in nodes:
            if isinstance(node, ast.Import):
                modules |= {each.asname: importlib.import_module(each.name) for each in node.names if each.asname}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for each in node.names:
                    modules[each.asname or each.name] = imported(node.module, each.name)
        for node in nodes:
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                assert hasattr(modules[node.value.id], node.attr), f"{node.value.id}.{node.attr}"


def imported(module: str, name: str) -> object:
    """What ``from module import name`` binds to the name."""
    whole = importlib.import_module(module)
    return getattr(whole, name) if hasattr(whole, name) else importlib.import_module(f"{module}.{name}")


def test_modules_of_the_page_exist() -> None:
    """docs/extending.md sends a reader to a module of the report that is called otherwise."""
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    listed = text[text.index("What the page says is computed in") :]
    folder = ROOT / "workflow" / "scripts" / "study" / "report"
    names = set(re.findall(r"`(\w+/?)`", listed)) - {"tests/"}
    assert len(names) > 10
    assert not [name for name in names if not (folder / (name if name.endswith("/") else f"{name}.py")).exists()]


def test_names_in_the_derivation_exist() -> None:
    """The derivation points to a function or class that is called otherwise, or is in another file."""
    text = (ROOT / "rnn_core" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|]*\$[^|]*\| ([^|]*`[^|]*)\|$", text, flags=re.MULTILINE)
    rows += re.findall(r"The loop is\n(`\w+` in `[\w/.]+`)", text)
    methods = [tuple(code.split(".")) for row in rows for code in re.findall(r"`(\w+Cell\.\w+)`", row)]
    functions = [
        (file, code)
        for row in rows
        for file in re.findall(r"in `([\w/]+\.py)`", row)
        for code in re.findall(r"`(\w+)`", row)
    ]
    assert len(methods) >= 9
    assert len(functions) >= 4
    for cell, method in methods:
        assert hasattr(getattr(rc, cell), method), f"{cell}.{method}"
    for file, function in functions:
        module = importlib.import_module("rnn_core." + file.removesuffix(".py").replace("/", "."))
        assert hasattr(module, function), f"{file}: {function}"


def test_the_catalogs_page_has_every_key_of_a_config() -> None:
    """A visitor from the workflow catalog does not learn of a key, or of one that is gone."""
    text = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    table = text[text.index("### Parameters") : text.index("### Example")]
    keys = [key for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)]
    assert sorted(keys) == sorted(schema()["properties"])


def test_every_figure_is_listed() -> None:
    """A figure was added, or renamed, and a reader of docs/results.md does not learn of it."""
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    table = text[text.index("## The figures") : text.index("## What the words mean")]
    figures = {file.stem for file in (ROOT / "workflow" / "scripts" / "figures").glob("*.py")} - {"__init__"}
    assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == figures


def test_messages_are_those_of_the_code() -> None:
    """A user looks up a message and does not find it: it was worded anew, and docs/trouble.md was not."""
    files = [
        f for kind in ("*.py", "*.smk") for folder in ("workflow", "rnn_core") for f in (ROOT / folder).rglob(kind)
    ]
    code = "\n".join(file.read_text(encoding="utf-8") for file in files)
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # one sentence in several strings
    text = (ROOT / "docs" / "trouble.md").read_text(encoding="utf-8")
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    messages = [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]
    parts = [part.strip() for message in messages for part in re.split(r"…|\(…\)|\d|config\.yaml|[;:]", message)]
    sought = [part for part in parts if len(part) > 8 and part != "Directory cannot be locked"]  # Snakemake's own words
    assert len(sought) > 20
    missing = [part for part in sought if part not in code]
    assert not missing


def test_a_user_without_a_home_is_told_what_helps(tmp_path: Path) -> None:
    """The page knew of a home that may not be written, not of one that does not exist."""
    text = (ROOT / "docs" / "trouble.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if "no such file or directory" in line]
    assert "`HOME=/tmp/home make report`" in row

    def planned(home: str) -> subprocess.CompletedProcess[str]:
        given = {key: value for key, value in os.environ.items() if key != "XDG_CACHE_HOME"} | {"HOME": home}
        call = [sys.executable, "-m", "snakemake", "-n", "--quiet", "--configfile", "studies/tiny.yaml"]
        return subprocess.run(call, cwd=ROOT, env=given, capture_output=True, text=True, timeout=300)

    without = planned("/proc/nohome")
    assert without.returncode and all(
        said in without.stdout + without.stderr for said in ("sourcecache.py", "No such file or")
    )
    assert planned(str(tmp_path / "home")).returncode == 0


def test_every_public_name_has_its_entry() -> None:
    """``rnn_core`` exports a name that the API page leaves out, or the page names one that is gone."""
    entries = re.findall(r"^::: rnn_core\.(\w+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    cells = set(rc.cells.__all__)  # all of them by one entry, ``rnn_core.cells``
    assert sorted(entries) == sorted(set(rc.__all__) - cells | {"cells"})


def test_every_page_is_in_the_site() -> None:
    """A page of docs/ is reached by no menu."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if f": {page.name}\n" not in text]
    assert not missing


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_editors_find_the_schema(config: Path) -> None:
    """An editor completes no keys of this config: its first line does not lead to the schema."""
    first = config.read_text(encoding="utf-8").splitlines()[0]
    path = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert path
    assert (config.parent / path[1]).resolve() == ROOT / "workflow" / "schemas" / "config.schema.json"


def test_the_citation_is_that_of_this_version() -> None:
    """Somebody cites another version, or under another licence, than the one they use."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what the format requires
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == rc.__version__
    assert citation["license"] == project["license"] == (ROOT / "LICENSE").read_text(encoding="utf-8").split()[0]


def test_the_workflow_catalog_finds_what_it_asks_for() -> None:
    """The Snakemake workflow catalog does not list the project under standardized usage."""
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert set(usage["software-stack-deployment"]) == {"conda", "apptainer", "apptainer+conda", "report"}
    assert (ROOT / "workflow" / "Snakefile").exists()
    assert (ROOT / "config" / "README.md").exists()


def test_the_hooks_before_a_commit_are_those_of_make_check() -> None:
    """A commit passes the hooks and fails `make check`, or the other way round."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]  # others have versions of their own
    entries = {hook["entry"] for hook in hooks[0]["hooks"]}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    check = makefile[makefile.index("\ncheck:") : makefile.index("\nformat:")]
    for tool in ("ruff format", "ruff check", "mypy", "snakefmt"):
        assert f".venv/bin/{tool}" in entries
        assert f"$(BIN)/{tool}" in check
    action = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    assert ".ci/run" in action["jobs"]["test"]["steps"][-1]["run"]
