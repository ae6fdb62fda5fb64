"""The whole tiny study: its rows against a program of our own, the same rows however it is executed, nothing lost."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import rnn_core as rc
from rnn_core.compiled import build
from rnn_core.experiment import axes
from study import plan
from study.data import task_file
from study.runs import runner
from study.tables import store
from study.tables.columns import TABLES
from tests.support.study_project import REPEATABLE_TABLES, Project, copy, copy_of, kept_runs, without_figures

pytestmark = [pytest.mark.workflow]
TINY = ("--configfile=studies/tiny.yaml",)


def same_rows(one: Project, other: Project, study: str = "tiny") -> None:
    for table in REPEATABLE_TABLES:
        pd.testing.assert_frame_equal(one.table(table, study), other.table(table, study), check_exact=True)


def as_given(value: Any) -> Any:
    """A setting as a config gives it: pandas makes whole numbers that may be null floats."""
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() and value > 2 else value


def finished_runs(project: Project) -> dict[str, float]:
    """The kept runs with what they took; those that were run once more to be verified are not among them."""
    kept = kept_runs(project.root / "results" / "tiny" / "cache")
    return {run: seconds for run, seconds in kept.items() if "-verified" not in run}


def digests_of(project: Project) -> dict[str, str]:
    """Task -> digest of the sequences that the study read."""
    files = (project.root / "results/tiny/sequences").glob("*.npz")
    return {file.stem: rc.Sequences(**task_file.load(file)).digest for file in files}


def keys_of(project: Project) -> dict[tuple[str, str], list[str]]:
    """The run keys that the plan gives every block."""
    digests = digests_of(project)
    return {
        name: [rc.Experiment(**run).key_with(digests.get(run.get("task", ""))) for run in block.runs()]
        for name, block in plan.blocks(project.config()).items()
    }


@pytest.mark.xdist_group("tiny")
class TestResults:
    def test_every_promised_file_is_there(self, tiny: Project) -> None:
        results = tiny.root / "results" / "tiny"
        for table in TABLES:
            assert (results / "tables" / f"{table}.parquet").is_file()
        for figure in tiny.config()["figures"]:
            for suffix in ("png", "svg"):
                assert (results / "figures" / f"{figure}.{suffix}").stat().st_size > 1000
        assert (results / "report.html").is_file()

    def test_every_figure_is_its_own(self, tiny: Project) -> None:
        """Rules made in a loop once all ran the last figure's script."""
        figures = tiny.root / "results" / "tiny" / "figures"
        names = tiny.config()["figures"]
        titles = {name: json.loads((figures / f"{name}.json").read_text(encoding="utf-8"))["title"] for name in names}
        assert len(set(titles.values())) == len(names)
        assert len({(figures / f"{name}.png").read_bytes() for name in names}) == len(names)
        assert "comparisons" in titles["engine_checks"]

    def test_both_reports_are_there(self, tiny: Project) -> None:
        results = tiny.root / "results" / "tiny"
        assert (results / "snakemake-report.html").is_file()

    def test_every_run_of_the_plan_has_its_row(self, tiny: Project) -> None:
        expected = sorted((sweep, key) for (sweep, _), keys in keys_of(tiny).items() for key in keys)
        runs = tiny.table("runs")
        assert list(zip(runs["sweep"], runs["run_key"], strict=True)) == expected
        assert set(tiny.table("traces")["run_key"]) == set(runs["run_key"])
        assert set(tiny.table("updates")["run_key"]) == set(runs["run_key"])

    def test_traces_are_those_of_an_independent_program(self, tiny: Project) -> None:
        """Plain torch autograd, written here, gives the same ‖dL/dh_t‖ at every t of every untrained run."""
        runs, traces = tiny.table("runs"), tiny.table("traces")
        compared = 0
        for _, row in runs[runs["sweep"] == "propagation"].iterrows():
            found = traces[traces["run_key"] == row["run_key"]]
            expected = independent_log10_norms(row)
            np.testing.assert_allclose(10 ** (found["log10_grad_norm"].to_numpy() - expected), 1.0, rtol=1e-10)
            compared += 1
        assert compared == 36

    def test_every_row_gives_back_its_run_key(self, tiny: Project) -> None:
        digests = digests_of(tiny)
        for _, row in tiny.table("runs").iterrows():
            settings = {name: row[name] for name in axes() if not pd.isna(row[name])}
            settings = {name: value.item() if hasattr(value, "item") else value for name, value in settings.items()}
            assert rc.Experiment(**settings).key_with(digests.get(row["task"])) == row["run_key"]

    def test_growth_in_runs_is_that_of_the_samples(self, tiny: Project) -> None:
        """The ratio is the batch's over the whole sequence, the rate the samples' own mean inside the settled window."""
        runs, traces = tiny.table("runs"), tiny.table("traces")
        for _, row in runs[runs["sweep"] == "propagation"].iterrows():
            norms = traces[traces["run_key"] == row["run_key"]].sort_values("t")["log10_grad_norm"]
            assert row["log10_gradient_ratio"] == pytest.approx(norms.iloc[0] - norms.iloc[-1], rel=1e-9)
            settings = {name: as_given(row[name]) for name in axes() if not pd.isna(row[name])}
            problem = rc.prepare(rc.Experiment(**settings))
            hidden = np.asarray(rc.evaluate(problem, problem.params, *problem.batch(0)).gradients.hidden)
            own = np.log(np.linalg.norm(hidden, axis=2))[row["settled_from"] - 1 : row["settled_to"]]
            rates = (own[0] - own[-1]) / (len(own) - 1)
            assert row["growth_rate"] == pytest.approx(rates.mean(), rel=1e-9)
            assert 1 <= row["settled_from"] < row["settled_to"] <= row["sequence_length"]

    def test_measured_radius_is_the_one_asked_for(self, tiny: Project) -> None:
        runs = tiny.table("runs")
        np.testing.assert_allclose(runs["measured_spectral_radius"], runs["spectral_radius"], rtol=1e-9)
        assert (runs["sigma_max"] >= runs["measured_spectral_radius"] * (1 - 1e-12)).all()
        assert (runs["growth_rate"] <= runs["bound_rate"] + 1e-12).all()

    def test_norms_after_clipping_are_within_the_threshold(self, tiny: Project) -> None:
        runs, updates = tiny.table("runs"), tiny.table("updates")
        clipped = updates.merge(runs[["sweep", "run_key", "clipping"]], on=["sweep", "run_key"])
        within = clipped[(clipped["clipping"] == "norm:1.0") & clipped["finite"]]
        assert len(within) > 20
        assert (within["log10_norm_after"] <= 1e-9).all()
        assert (within["clip_factor"] <= 1.0).all()
        untouched = clipped[clipped["clipping"] == "none"]
        assert (untouched["log10_norm_after"].dropna() == untouched["log10_norm_before"].dropna()).all()

    def test_runs_that_break_down_are_recorded_with_their_step(self, tiny: Project) -> None:
        runs, updates = tiny.table("runs"), tiny.table("updates")
        broken = runs[runs["first_nonfinite_update"].notna()]
        assert len(broken) > 0, "the tiny study is meant to hold runs that diverge"
        for _, row in broken.iterrows():
            own = updates[(updates["run_key"] == row["run_key"]) & (updates["sweep"] == row["sweep"])]
            assert own["update"].max() == row["first_nonfinite_update"]
            assert own["finite"].tolist() == [True] * (len(own) - 1) + [False]
            assert math.isnan(row["held_out_loss"])
        whole = runs[(runs["updates"] > 0) & runs["first_nonfinite_update"].isna()]
        assert whole["held_out_loss"].notna().all()

    def test_gate_and_sample_are_in_the_checks(self, tiny: Project) -> None:
        checks, runs = tiny.table("checks"), tiny.table("runs")
        assert set(checks["stage"]) == {"gate", "sweep"}
        assert set(checks["oracle"]) == {"torch.autograd", "torch.nn.RNN"}
        assert set(checks[checks["stage"] == "gate"]["activation"]) == {"identity", "relu", "sigmoid", "tanh"}
        assert (checks["relative_error"].dropna() <= checks["tolerance"].iloc[0]).all()
        assert checks["relative_error"].notna().sum() > 20
        sampled = set(checks[checks["stage"] == "sweep"]["run_key"])
        assert sampled == set(runs[runs["verified_error"].notna()]["run_key"])
        assert len(sampled) == len(plan.blocks(tiny.config()))

    def test_provenance_is_in_every_footer_and_names_no_machine_path(self, tiny: Project) -> None:
        for table in TABLES:
            provenance = store.provenance_of(tiny.root / "results" / "tiny" / "tables" / f"{table}.parquet")
            assert provenance["config"] == tiny.config()
            assert provenance["versions"]["torch"]
            assert str(tiny.root) not in str(provenance)
        assert (tiny.table("runs")["engine"] == provenance["engine"]).all()

    def test_the_plan_counts_runs_jobs_and_what_is_finished(self, tiny: Project) -> None:
        done = tiny.snakemake("plan", "--quiet=all", *TINY)
        rows = {line.split("  ")[0].strip(): line.split() for line in done.stdout.splitlines()}
        assert rows["propagation"][1:4] == ["36", "36", "3"]
        assert rows["clipping"][1:4] == ["36", "36", "3"]
        assert rows["all"][1:3] == ["72", "72"]
        assert "Wall time of the whole study on 2 cores" in done.stdout
        assert "runs with the study's settings were timed here" in done.stdout

    def test_jobs_keep_records_and_the_progress_reaches_the_end(self, tiny: Project) -> None:
        logs = tiny.root / "results" / "tiny" / "logs"
        assert (logs / "progress.log").read_text().splitlines()[-1].startswith("72 of 72 runs (100 %)")
        records = [json.loads(file.read_text()) for file in logs.rglob("*.json") if file.name != "session.json"]
        assert {r["rule"] for r in records} == {
            "run_block",
            "verify_runs",
            "check_engine",
            "gather_table",
            "draw_figures",
            "read_sequences",
            "render_report",
        }
        assert sum(r["finished"] for r in records) == 72

    def test_nothing_is_left_to_do(self, tiny: Project) -> None:
        assert tiny.rules_to_run(*TINY) == {}


def independent_log10_norms(row: Any) -> np.ndarray:
    """log10 ‖dL/dh_t‖, t = 1 … T, of a white-noise run by plain autograd: L = mean over the batch of ½ (y - target)²."""
    names = ("activation", "spectral_radius", "sequence_length", "hidden_size", "batch_size", "seed")
    settings = {name: row[name].item() if hasattr(row[name], "item") else row[name] for name in names}
    problem = rc.prepare(rc.Experiment(**settings))
    x, target = (torch.tensor(array) for array in problem.batch(0))
    p = {name: torch.tensor(value) for name, value in problem.params.items()}
    phi = {"identity": lambda a: a, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}[row["activation"]]
    h = torch.zeros(x.shape[1], p["weight_hh"].shape[0], dtype=x.dtype, requires_grad=True)
    states = []
    for x_t in x:
        h = phi(x_t @ p["weight_ih"].T + p["bias_ih"] + h @ p["weight_hh"].T + p["bias_hh"])
        h.retain_grad()
        states.append(h)
    y = h @ p["weight_ho"].T + p["bias_ho"]
    (0.5 * (y - target).square().sum(dim=1).mean()).backward()
    return np.array([float(state.grad.norm().log10()) for state in states])


@pytest.mark.xdist_group("tiny")
class TestExecution:
    """The same rows on one core or two, in other jobs, as a study grows and after a job failed. Kills and damage: tests/faults."""

    def test_one_core_gives_the_same_rows(self, tiny: Project, tmp_path: Path) -> None:
        other = copy(tmp_path / "project")
        tables = [f"results/tiny/tables/{table}.parquet" for table in TABLES]
        other.snakemake(*TINY, *tables, cores=1)
        same_rows(tiny, other)

    def test_other_jobs_give_the_same_rows(self, tiny: Project, tmp_path: Path) -> None:
        other = copy(tmp_path / "project")
        config = without_figures(other.config())
        config["sweeps"]["propagation"]["jobs_over"] = ["spectral_radius"]
        config["sweeps"]["clipping"]["jobs_over"] = []
        config["gate"]["checked_runs_per_job"] = 0
        other.snakemake(*other.write_config("tiny", config), "results/tiny/tables/runs.parquet")
        ours = tiny.table("runs").drop(columns="verified_error")
        theirs = other.table("runs").drop(columns="verified_error")
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)

    def test_a_grown_study_computes_only_what_is_new(self, tmp_path: Path) -> None:
        """An axis of jobs, an axis within jobs and the seeds grow; the rows are those of a study that never was smaller."""
        other, fresh = copy(tmp_path / "project"), copy(tmp_path / "fresh")
        small = without_figures(other.config())
        del small["sweeps"]["clipping"], small["sequences"]
        grown, runs = copy_of(small), "results/tiny/tables/runs.parquet"
        small["sweeps"]["propagation"]["grid"] |= {"activation": ["identity", "tanh"], "spectral_radius": [0.5, 1.5]}
        small["sweeps"]["propagation"]["seeds"] = 1
        other.snakemake(*other.write_config("tiny", small), runs)
        before = finished_runs(other)
        other.snakemake(*other.write_config("tiny", grown), runs)
        after = finished_runs(other)
        assert (len(before), len(after)) == (8, 36)
        assert before.items() <= after.items(), "a finished run was made again"
        fresh.snakemake(*fresh.write_config("tiny", grown), runs)
        pd.testing.assert_frame_equal(other.table("runs"), fresh.table("runs"), check_exact=True)

    def test_a_failed_job_leaves_no_silent_gap(self, tiny: Project, tmp_path: Path) -> None:
        """The runs of one block cannot be kept; the rest is made, no table is, and once repaired only the gap is computed."""
        other = copy(tmp_path / "project")
        tables = [f"results/tiny/tables/{table}.parquet" for table in TABLES]
        place = (
            other.root
            / "results"
            / "tiny"
            / "cache"
            / runner.identity("cpu", other.config()["traces"])
            / "propagation"
            / "activation=tanh"
        )
        place.parent.mkdir(parents=True)
        place.write_text("a file where a folder should be")
        failed = other.snakemake(*TINY, "--keep-going", *tables, check=False)
        assert failed.returncode != 0
        said = failed.stdout + failed.stderr
        assert re.search(r"propagation/activation=tanh/\w+\.runs cannot be written: ", said)
        assert "When that is mended, run the same command again. What is finished is kept." in said
        assert "activation=tanh" in said
        made = {file.stem for file in other.root.glob("results/tiny/tables/*.parquet")}
        assert made <= {"checks"}, "a table without the failed block's rows"  # the checks need nothing of a block
        assert (other.root / "results/tiny/blocks/propagation/activation=sigmoid/runs.parquet").is_file()
        assert other.rules_to_run(*TINY, *tables)["run_block"] == 1
        kept = finished_runs(other)
        assert len(kept) == 60

        place.unlink()
        other.snakemake(*TINY, *tables)
        same_rows(tiny, other)
        assert kept.items() <= finished_runs(other).items()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[str]]:
    project = copy(tmp_path_factory.mktemp("edits") / "project")
    config = project.config()
    config["study"] = "edited"
    del config["sweeps"]["clipping"], config["sequences"]
    config["figures"] = ["engine_checks", "growth_rate"]
    arguments = project.write_config("edited", config)
    project.snakemake(*arguments)
    return project, arguments


@pytest.mark.xdist_group("edits")
class TestEdits:
    """What reruns when something is edited, and what happens when the engine is wrong."""

    def edited(self, project: Project, arguments: list[str], file: str, text: str = "\n# edited\n") -> dict[str, int]:
        path = project.root / file
        before, times = path.read_text(encoding="utf-8"), path.stat()
        path.write_text(before + text, encoding="utf-8")
        try:
            return project.rules_to_run(*arguments)
        finally:  # the time of change too: Snakemake goes by it where scripts are concerned
            path.write_text(before, encoding="utf-8")
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def test_editing_the_engine_reruns_what_depends_on_it(self, built: tuple[Project, list[str]]) -> None:
        jobs = self.edited(*built, "rnn_core/cells/vanilla.py")
        assert jobs["check_engine"] == 1
        assert jobs["run_block"] == 3
        assert jobs["render_report"] == 1

    def test_editing_a_figure_script_draws_that_figure_alone(self, built: tuple[Project, list[str]]) -> None:
        """The job runs again, for Snakemake knows no part of a job. It takes the other figures from what it has kept."""
        project, arguments = built
        kept = project.root / "results" / "edited" / "cache" / "figures"
        before = {file: file.stat().st_mtime_ns for file in kept.rglob("*") if file.is_file()}
        script = project.root / "workflow/scripts/figures/growth_rate.py"
        sound = script.read_text(encoding="utf-8")
        script.write_text(sound + "\n# edited\n", encoding="utf-8")
        try:
            jobs = project.rules_to_run(*arguments)
            project.snakemake(*arguments)
        finally:
            script.write_text(sound, encoding="utf-8")
        assert jobs == {"study": 1, "draw_figures": 1, "render_report": 1}
        changed = {file.parent.name for file, time in before.items() if file.stat().st_mtime_ns != time}
        assert changed == {"growth_rate"}
        figures = project.root / "results" / "edited" / "figures"
        for kind in ("png", "svg"):
            assert (figures / f"engine_checks.{kind}").read_bytes() == (kept / "engine_checks" / kind).read_bytes()
        project.snakemake(*arguments)
        assert project.rules_to_run(*arguments) == {}

    def test_editing_what_scripts_share_reruns_those_that_import_it(self, built: tuple[Project, list[str]]) -> None:
        jobs = self.edited(*built, "workflow/scripts/study/report/drawing.py")
        assert jobs["draw_figures"] == 1
        assert "run_block" not in jobs

    def test_editing_the_page_reruns_the_page_alone(self, built: tuple[Project, list[str]]) -> None:
        assert self.edited(*built, "workflow/report/page.css") == {"study": 1, "render_report": 1}

    @pytest.mark.parametrize(
        ("file", "sound", "wrong", "mode"),
        [
            ("activations.py", "return 4.0 * e", "return 4.000004 * e", "off"),
            ("compiled/phi.h", "return 4 * e", "return (REAL)4.000004 * e", "auto"),
        ],
        ids=["readable", "compiled"],
    )
    def test_a_wrong_engine_stops_the_study_at_the_gate(
        self,
        built: tuple[Project, list[str]],
        file: str,
        sound: str,
        wrong: str,
        mode: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The derivative of tanh off by one part in a million: no table is made, and the worst case is named."""
        if mode == "auto" and (found := build.library()).handle is None:
            pytest.skip(f"no fast path here: {found.why}")
        monkeypatch.setenv("RNN_CORE_COMPILED", mode)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # the wrong library is not kept
        monkeypatch.setenv("RNN_CORE_CFLAGS", "-O1")  # and quickly built
        project, arguments = built
        path = project.root / "rnn_core" / file
        before = path.read_text(encoding="utf-8")
        assert before.count(sound) == 1
        path.write_text(before.replace(sound, wrong), encoding="utf-8")
        try:
            done = project.snakemake(*arguments, check=False)
            message = done.stdout + done.stderr
            assert done.returncode != 0
            assert "The engine check stopped the study" in message
            assert "activation=tanh" in message
            assert "above the tolerance 1e-10" in message
            assert "rule gather_table" not in message and "rule render_report" not in message
            left = project.rules_to_run(*arguments)
            assert left["check_engine"] == left["render_report"] == 1 and left["gather_table"] == 5
        finally:
            path.write_text(before, encoding="utf-8")


def test_float32_runs_pass_their_own_tolerance(tmp_path: Path) -> None:
    project = copy(tmp_path / "project")
    config = without_figures(project.config())
    del config["sweeps"]["clipping"], config["sequences"]
    config["study"] = "single"
    config["sweeps"]["propagation"]["grid"] |= {"dtype": ["float32", "float64"], "sequence_length": 30}
    arguments = project.write_config("single", config)
    project.snakemake(*arguments, "results/single/tables/runs.parquet", "results/single/tables/checks.parquet")
    checks = project.table("checks", "single")
    assert set(checks["dtype"]) == {"float32", "float64"}
    runs = project.table("runs", "single")
    pair = runs.pivot_table(index=["activation", "spectral_radius", "seed"], columns="dtype", values="growth_rate")
    np.testing.assert_allclose(pair["float32"], pair["float64"], atol=1e-4)
    assert not (pair["float32"] == pair["float64"]).all()


def test_a_users_file_with_a_mistake_stops_with_its_reason(tmp_path: Path) -> None:
    project = copy(tmp_path / "project")
    config = without_figures(project.config())
    config["sequences"]["waves"]["inputs"] = ["heigth"]
    done = project.snakemake(*project.write_config("tiny", config), check=False)
    assert done.returncode != 0
    assert "no column 'heigth'" in done.stdout + done.stderr
    assert "Did you mean 'height'?" in done.stdout + done.stderr
    assert not (project.root / "results" / "tiny" / "blocks").exists()


@pytest.mark.xdist_group("tiny")
def test_digits_of_a_run_come_from_the_stored_split(tiny: Project) -> None:
    stored = task_file.load(tiny.root / "results" / "tiny" / "sequences" / "digits.npz")
    assert stored["inputs"].shape == (1797, 64, 1)
