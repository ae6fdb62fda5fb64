"""What a person sees: whole sessions in a terminal and in a log, failures, Ctrl-C; and the parts that draw, listen and stop."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from study.cost.forecast import Job
from study.screen import display, job_log, session, view
from study.screen.display import Screen
from study.screen.session import Listener
from study.screen.view import StudyView
from tests.faults.disturbed import SAID, STUDY, Disturbed, fresh
from tests.support.python_server import run_module
from tests.support.study_project import ROOT, Project
from tests.support.terminal import Ended, Terminal, run_in_terminal

STOPPED = "Stopped. What is finished is kept; the same command goes on."
LEFT = r"(about (\d+ h )?(\d+ min )?(\d+ s )?left)"
LIVE = re.compile(rf"\d+ of 48 runs \(\d+ %\)(, [\d.e+]+ runs/s)?(, {LEFT})?(: [a-z0-9(), ]+)?(  \[#*\.*\])?")
MESSAGES = re.compile(
    r"Using workflow specific profile profiles/default for setting default command line arguments\."
    rf"|Study {STUDY}: \d+ jobs, \d+ runs\.( Ctrl-C stops it, and the same command goes on\.)?"
    rf"|Report: results/{STUDY}/report\.html \(\d+\.\d MB\), (\d+ min )?\d+ s"
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A copy with a study of four blocks and one figure that was not run."""
    return fresh(tmp_path / "project")


def environment(project: Project, **more: str) -> dict[str, str]:
    known = {k: v for k, v in project.environment().items() if k not in ("NO_COLOR", session.SWITCH)}
    return known | {"TERM": "xterm"} | more


def in_terminal(project: Project, *more: str, columns: int = 100, when: str | None = None, action: Callable[[int, int], None] | None = None, **variables: str) -> Ended:  # fmt: skip
    command = [*project.command(*more), f"--configfile=studies/{STUDY}.yaml"]
    return run_in_terminal(command, project.root, environment(project, **variables), columns, when, action)


def in_log(project: Project, *more: str, **variables: str) -> tuple[int, str]:
    words = [*project.command(*more)[2:], f"--configfile=studies/{STUDY}.yaml"]
    done = run_module(*words, folder=project.root, environment=environment(project, **variables))
    return done.returncode, done.stdout + done.stderr


def assert_nothing_mixed(terminal: Terminal, *allowed: str, columns: int = 100) -> None:
    """Every line that stays is one whole message, and every line that was drawn over was one whole live line."""
    pattern = re.compile("|".join([MESSAGES.pattern, *allowed]))
    strange = [line for line in terminal.screen() if not pattern.fullmatch(line)]
    assert not strange, strange
    drawn = [line.removesuffix("^C").rstrip() for line in terminal.redrawn]
    known = ("", "finding out what is to be done", "stopping")
    strange = [
        line
        for line in drawn
        if line not in known and not LIVE.fullmatch(line) and not pattern.fullmatch(line) and not _is_cut(line, columns)
    ]
    assert not [line for line in strange if not re.fullmatch(r"stopping  \[#*\.*\]", line)], strange


def _is_cut(line: str, columns: int) -> bool:
    return len(line) == columns - display.FREE and bool(re.match(r"\d+ of \d+ runs \(\d+ %\)", line))


@pytest.fixture(scope="module")
def seen(undisturbed: Disturbed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Ended, str]:
    """A project whose study was run in a terminal, that session, and the log of the same study run into a log."""
    project = fresh(tmp_path_factory.mktemp("seen") / "project")
    ended = in_terminal(project)
    for each in (project, undisturbed):
        kept = (each.root / "results" / STUDY / "logs" / "progress.log").read_text()
        assert kept.splitlines()[-1].startswith("48 of 48 runs (100 %)")
    return project, ended, (undisturbed.root.parent / SAID).read_bytes().decode()


@pytest.mark.workflow
@pytest.mark.xdist_group("seen")
class TestWholeSessions:
    def test_in_a_terminal_no_line_holds_two_messages_and_the_last_is_the_report(
        self, seen: tuple[Project, Ended, str]
    ) -> None:
        _, ended, _ = seen
        terminal = ended.terminal(100)
        assert ended.status == 0, ended.written
        assert_nothing_mixed(terminal)
        assert terminal.screen()[-1].startswith(f"Report: results/{STUDY}/report.html (")
        assert len(terminal.screen()) == 3
        assert sum(line.startswith("48 of 48 runs (100 %), about") for line in terminal.redrawn) > 2, (
            "no time for the page"
        )

    def test_in_a_log_there_are_plain_lines_alone(self, seen: tuple[Project, Ended, str]) -> None:
        *_, said = seen
        assert not re.search(r"[\x00-\x09\x0b-\x1f]", said), "a control character in a log"
        lines = said.splitlines()
        assert [line for line in lines if not (MESSAGES.fullmatch(line) or LIVE.fullmatch(line))] == []
        assert lines[-1].startswith(f"Report: results/{STUDY}/report.html (")
        assert 4 <= len(lines) <= 20

    def test_where_nothing_is_to_be_done_the_report_is_named_once(self, seen: tuple[Project, Ended, str]) -> None:
        project, *_ = seen
        status, said = in_log(project)
        assert status == 0
        assert said.splitlines()[1:] == [said.splitlines()[-1]]
        assert re.fullmatch(rf"Nothing to be done: everything is finished\. Report: results/{STUDY}/report\.html \(\d\.\d MB\)", said.splitlines()[-1])  # fmt: skip
        status, said = in_log(project, f"results/{STUDY}/tables/runs.parquet")
        assert said.splitlines()[-1] == "Nothing to be done: everything is finished.", "the page was not asked for"

    def test_a_dry_run_and_a_plan_stay_as_snakemake_says_them(self, seen: tuple[Project, Ended, str]) -> None:
        project, *_ = seen
        (project.root / "results" / STUDY / "report.html").rename(project.root / "aside.html")
        try:
            status, said = in_log(project, "--dry-run")
        finally:
            (project.root / "aside.html").rename(project.root / "results" / STUDY / "report.html")
        assert status == 0
        for words in (
            "Assuming unrestricted shared filesystem",
            "Building DAG of jobs...",
            "Job stats:",
            "This was a dry-run",
        ):
            assert words in said
        assert "Report:" not in said and f"Study {STUDY}" not in said
        status, said = in_log(project, "plan", "--nolock")
        assert "Job stats:" in said and "Wall time of the whole study on 2 cores" in said and "Report:" not in said

    @pytest.mark.parametrize("asked", [{"STUDY_SCREEN": "off"}, {}], ids=["variable", "option"])
    def test_who_asks_for_snakemakes_view_gets_it_with_the_last_words(
        self, seen: tuple[Project, Ended, str], asked: dict[str, str]
    ) -> None:
        project, *_ = seen
        (project.root / "results" / STUDY / "report.html").unlink()
        status, said = in_log(project, *([] if asked else ["--quiet=host"]), **asked)
        assert status == 0
        assert "Select jobs to execute..." in said and "Finished jobid" in said
        assert said.splitlines()[-1].startswith(f"Report: results/{STUDY}/report.html (")
        assert ("rule render_report:" in said) == (not asked)


PLANTED = "a planted refusal"


def plant(project: Project, *faults: tuple[str, str]) -> None:
    """(block, statement that it runs instead of its runs) for some of the four blocks."""
    planted = [f'    if block.name == "{name}":\n        import os\n        {what}\n' for name, what in faults]
    line = "    runner.finish(by_name.values(), record)\n"
    edit(project, "runs/runner.py", line, "".join(planted) + line)


def hear_late(project: Project) -> None:
    """The call notices a signal half a second after its jobs could, as it may on a loaded machine."""
    edit(project, "screen/stop.py", "    asked.wait()\n", "    asked.wait()\n    time.sleep(0.5)\n")


def edit(project: Project, module: str, line: str, other: str) -> None:
    file = project.root / "workflow" / "scripts" / "study" / module
    text = file.read_text()
    assert text.count(line) == 1
    file.write_text(text.replace(line, other))


@pytest.mark.workflow
@pytest.mark.parametrize("live", [True, False], ids=["terminal", "log"])
def test_failed_jobs_are_told_once_each_with_block_reason_and_log(project: Project, live: bool) -> None:
    plant(
        project,
        ("activation=relu", f'raise ValueError("{PLANTED}")'),
        ("activation=identity", "os.kill(os.getpid(), 9)"),
    )
    logs = f"results/{STUDY}/logs/run_block"
    failures = [
        ["Failed: block clipping/activation=relu", f"  ValueError in block clipping/activation=relu: {PLANTED}", f"  Log: {logs}/clipping/activation=relu.log"],
        ["Failed: block propagation/activation=identity", "  It was killed (SIGKILL): by hand, or by the system for want of memory.", f"  Log: {logs}/propagation/activation=identity.log"],
    ]  # fmt: skip
    if live:
        ended = in_terminal(project, "--keep-going", columns=170)
        assert_nothing_mixed(
            ended.terminal(170), *(re.escape(line) for f in failures for line in f), r"2 of \d+ jobs failed: .*"
        )
        status, lines = ended.status, ended.terminal(170).screen()
    else:
        status, said = in_log(project, "--keep-going")
        lines = said.splitlines()
    assert status == 1
    for failure in failures:
        at = [n for n, line in enumerate(lines) if line == failure[0]]
        assert len(at) == 1, lines
        assert lines[at[0] : at[0] + 3] == failure
    assert re.fullmatch(
        r"2 of \d+ jobs failed: block \S+, block \S+\. What is finished is kept; once that is mended, the same command goes on\.", lines[-1]
    )  # fmt: skip
    assert not [line for line in lines if re.search(r"RuleException|CalledProcessError|WorkflowError|jobid", line)]
    assert (project.root / "results" / STUDY / "blocks" / "propagation" / "activation=tanh").is_dir()


@pytest.mark.workflow
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGHUP"])
def test_a_call_that_is_stopped_ends_fast_and_says_that_the_same_command_goes_on(project: Project, how: str) -> None:
    """SIGTERM and SIGHUP go to Snakemake alone; its jobs end all the same, one of which would take ten minutes. It takes a second."""
    plant(project, ("activation=relu", "time.sleep(600)"))
    hear_late(project)

    def act(process: int, terminal: int) -> None:
        if how == "Ctrl-C":
            os.write(terminal, b"\x03")
        else:
            os.kill(process, getattr(signal, how))

    ended = in_terminal(project, when=r"of 48 runs .*(verification|runs/s)", action=act)
    assert ended.status == 1
    assert ended.seconds < 10.0, "on a machine that may be loaded"
    assert ended.terminal(100).screen()[-1] == STOPPED
    assert_nothing_mixed(ended.terminal(100), re.escape(STOPPED))
    living = [p for p in Path("/proc").glob("[0-9]*/cmdline") if f"{project.root}/.snakemake/scripts" in _read(p)]
    assert living == [], "a job lives on"
    assert not list((project.root / ".snakemake").glob("locks/*.lock"))


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


@pytest.mark.workflow
def test_a_ctrl_c_before_the_study_runs_is_one_sentence(project: Project) -> None:
    def act(_: int, terminal: int) -> None:
        os.write(terminal, b"\x03")

    ended = in_terminal(project, when="finding out", action=act)
    assert ended.status not in (0, None)
    assert ended.terminal(100).screen()[-1] == STOPPED
    assert "Traceback" not in ended.written


# ---- SIGTERM at a bad moment

HELD_LOCK = """
    import os, signal, sys, threading, time
    from types import SimpleNamespace
    from study.screen import stop
    from snakemake.scheduling.job_scheduler import JobScheduler

    scheduler = JobScheduler.__new__(JobScheduler)  # with what its signal handler and its error callback use
    scheduler._lock, scheduler._open_jobs, scheduler._executor_error = threading.Lock(), threading.Semaphore(0), None
    scheduler._user_kill = None
    signal.signal(signal.SIGTERM, scheduler.exit_gracefully)
    if sys.argv[1] == "ours":
        stop.stop_on_signals(scheduler, True, threading.Event(), lambda: print("told", flush=True))
    with scheduler._lock:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)
    scheduler._open_jobs.acquire()
    with scheduler._lock:
        print("error" if scheduler._executor_error is not None else "kill", flush=True)
"""


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_a_signal_while_the_schedulers_lock_is_held_ends_the_call(whose: str) -> None:
    """Snakemake's own handler waits for ever in the same place: were it not so, ours would not be needed."""
    command = [sys.executable, "-c", textwrap.dedent(HELD_LOCK), whose]
    scripts = os.pathsep.join([str(ROOT / "workflow" / "scripts"), str(ROOT)])
    call = {"env": {**os.environ, "PYTHONPATH": scripts}, "capture_output": True, "text": True}
    if whose == "ours":
        assert subprocess.run(command, timeout=60, **call).stdout.split() == ["told", "error"]  # type: ignore[call-overload]
    else:
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(command, timeout=8, **call)  # type: ignore[call-overload]


ELSEWHERE = """
    import signal, threading, time
    from types import SimpleNamespace
    from study.screen import stop

    def receive():
        time.sleep(0.5)
        signal.pthread_kill(threading.get_ident(), signal.SIGHUP)

    threading.Thread(target=receive, daemon=True).start()
    jobs = threading.Semaphore(0)  # the main thread waits for it, without an end
    scheduler = SimpleNamespace(executor_error_callback=lambda error: jobs.release())
    stop.stop_on_signals(scheduler, True, threading.Event(), lambda: None)
    jobs.acquire()
    print("ended", flush=True)
"""


def test_a_signal_that_another_thread_receives_ends_the_call() -> None:
    """The system gives a signal to any thread. Python's handler would run when the main thread wakes, at the end of the next job."""
    command = [sys.executable, "-c", textwrap.dedent(ELSEWHERE)]
    scripts = {**os.environ, "PYTHONPATH": str(ROOT / "workflow" / "scripts")}
    done = subprocess.run(command, env=scripts, capture_output=True, text=True, timeout=30)
    assert done.stdout == "ended\n", done.stderr


TO_ALL = """
    import os, signal, subprocess, sys, threading, time
    from types import SimpleNamespace
    from study.screen import stop

    heard = stop._Asked.wait  # this process hears of the signal late, as on a loaded machine
    stop._Asked.wait = lambda asked: (heard(asked), time.sleep(1.0))
    ended, stopping = threading.Event(), threading.Event()
    stop.stop_on_signals(SimpleNamespace(executor_error_callback=lambda error: ended.wait()), True, stopping, lambda: None)

    def work():
        job = subprocess.Popen(["bash", "-c", f"set -e; {sys.executable} -S -c 'print(1, flush=True); import time; time.sleep(600)'"], stdout=-1)
        job.stdout.readline()
        os.killpg(0, getattr(signal, sys.argv[1]))
        status = job.wait()
        print(stopping.is_set(), status in (-signal.SIGTERM, 128 + signal.SIGTERM), flush=True)
        ended.set()

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGHUP"])
def test_what_a_terminal_sends_to_all_ends_no_job_before_the_call_knows_of_it(number: str) -> None:
    """The call ends its jobs, with SIGTERM. One that ended of itself would be told as a failure, and cut the call's work short."""
    command = [sys.executable, "-c", textwrap.dedent(TO_ALL), number]
    scripts = {**os.environ, "PYTHONPATH": str(ROOT / "workflow" / "scripts")}
    done = subprocess.run(command, env=scripts, capture_output=True, text=True, timeout=60, start_new_session=True)
    assert done.stdout == "True True\n", done.stderr


HELD_UP = """
    import os, signal, subprocess, sys, threading, time
    from types import SimpleNamespace
    from study.screen import stop

    stop.PATIENCE = {True: 3.0}
    job = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"])
    print(job.pid, flush=True)
    scheduler = SimpleNamespace(executor_error_callback=lambda error: time.sleep(600))
    stop.stop_on_signals(scheduler, True, threading.Event(), lambda: None)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        time.sleep(0.1)
"""


def test_a_call_that_does_not_end_by_itself_is_ended_with_its_jobs() -> None:
    """Snakemake hangs for good, and its job ignores SIGTERM."""
    command = [sys.executable, "-c", textwrap.dedent(HELD_UP)]
    scripts = {**os.environ, "PYTHONPATH": str(ROOT / "workflow" / "scripts")}
    done = subprocess.run(command, env=scripts, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    state = _read(Path(f"/proc/{int(done.stdout)}/stat")).rpartition(")")[2].split()[:1]
    assert state in ([], ["Z"]), "the job lives on"


# ---- the parts


class Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", session.SWITCH, job_log.LOGS_ARE_READ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def shown(screen: Screen, columns: int, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr(screen, "_columns", lambda: columns)
    for share in (0.0, 0.5):
        screen.show(f"line at {share}, with words that need some sixty columns of room", "phase", share)
        screen.say("a message", "red")
    terminal = Terminal(columns)
    terminal.feed(screen.stream.getvalue().replace("\n", "\r\n"))  # type: ignore[attr-defined]
    return terminal


@pytest.mark.parametrize("columns", [200, 80, 62, 20, 2])
def test_a_live_line_never_wraps(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = shown(Screen(Stream(True)), columns, monkeypatch)
    messages = max(1, -(-len("a message") // columns))
    assert len(terminal.lines) == 2 * messages + 1
    assert len(terminal.lines[-1] + "^C") < columns or columns == 2
    assert ("[####" in terminal.lines[-1]) == (columns >= 80)


def test_colours_only_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def colours(screen: Screen) -> bool:
        screen.say("a message", "red")
        return "\x1b[31m" in screen.stream.getvalue()  # type: ignore[attr-defined]

    assert colours(Screen(Stream(True)))
    assert not colours(Screen(Stream(False)))
    assert not colours(Screen(Stream(True), coloured=False))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colours(Screen(Stream(True)))


def test_a_dumb_terminal_gets_what_a_log_gets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A line when the stage changes or ten seconds have passed, no control characters; and the same lines in the kept log."""
    monkeypatch.setenv("TERM", "dumb")
    screen, clock = Screen(Stream(True)), [100.0]
    screen.keep_log(tmp_path / "logs" / "progress.log")
    monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])
    for second in range(25):
        clock[0] += 1.0
        screen.show(f"second {second}", "second stage" if second >= 12 else "first stage")
    screen.close()
    lines = screen.stream.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines == ["second 0", "second 10", "second 12", "second 22"]
    assert (tmp_path / "logs" / "progress.log").read_text().splitlines() == lines


OTHERS = """
    import os, subprocess, sys, time
    from study.screen import display
    from study.screen.display import Screen
    screen = Screen(sys.stderr)
    screen.own_terminal()
    screen.show("a live line", "", 0.5)
    print("from this process", file=sys.stderr, flush=True)
    subprocess.run(["sh", "-c", "echo from a child; echo from its other hand >&2; sleep 600 & printf unfinished"])
    time.sleep(2.0)
    screen.say("a message")
    print("\\rdrawn over\\rat last", file=sys.stderr, flush=True)
    screen.close()
    print("afterwards", flush=True)
    display.HOLD = 3.0
    screen.own_terminal()
    os.write(2, b"the words of a job that a Ctrl-C ended\\n")
    time.sleep(0.3)
    screen.silence_others()
    screen.close()
    os.system("kill $(pgrep -g 0 sleep)")
"""


def test_what_others_write_to_the_terminal_stands_on_lines_of_its_own(tmp_path: Path) -> None:
    """Also of a child that lives on: the screen's end does not wait for it."""
    environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT / "workflow" / "scripts")}
    ended = run_in_terminal([sys.executable, "-c", textwrap.dedent(OTHERS)], tmp_path, environment)
    lines = ended.terminal(100).screen()
    assert lines == ["from this process", "from a child", "from its other hand", "a message", "at last", "afterwards"]
    assert ended.seconds < 60


class Theirs(logging.StreamHandler):
    """What stands for Snakemake's own handler."""

    nocolor = False

    def __init__(self) -> None:
        super().__init__(Stream(False))
        self.name = "DefaultStreamHandler"

    def said(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def workflow(**changed: object) -> SimpleNamespace:
    """What the listener asks of Snakemake's workflow."""
    known: dict[str, object] = {
        "_executor_plugin": SimpleNamespace(common_settings=SimpleNamespace(dryrun_exec=False, touch_exec=False)),
        "dag_settings": SimpleNamespace(targets=["study"]),
        "output_settings": SimpleNamespace(quiet=set(), verbose=False, debug_dag=False, log_handler_settings={}),
        "execution_settings": SimpleNamespace(no_hooks=False, debug=False, keep_going=True),
        "storage_settings": SimpleNamespace(shared_fs_usage=[]),
        "dag": SimpleNamespace(jobs=[]),
    }
    return SimpleNamespace(**{**known, **changed})


def hear(listener: Listener, text: str | None, level: int = logging.INFO, **known: object) -> None:
    record = logging.LogRecord("snakemake.logging", level, "", 0, text, (), None)
    record.__dict__.update(known)
    listener.handle(record)


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Listener:
    """One that has taken over, with two blocks to come; signals stay as they are."""
    monkeypatch.setattr(view.stopping, "interrupt_on_signals", lambda: None)
    monkeypatch.setattr(sys, "argv", ["snakemake", "--cores", "2"])
    found = Listener(workflow(), StudyView(workflow(), Theirs(), str(tmp_path / "results" / "x" / "report.html")))
    hear(found, "Workflow has started!", event="workflow_started")
    jobs = {n: Job("runs", f"block x/{n}", 1.0, logs=(str(tmp_path / f"{n}.log"),), runs=3) for n in (1, 2)}
    found.view.start(jobs, 2, tmp_path / "progress.log")
    return found


def failing(listener: Listener, number: int, log: str, how: str = "returned non-zero exit status 3") -> None:
    hear(listener, f"RuleException:\nCalledProcessError in file x, line 3:\nCommand 'python x' {how}.", logging.ERROR, event="error", exception="RuleException")  # fmt: skip
    hear(listener, "Error in rule", logging.ERROR, event="job_error", jobid=number, rule_name="run_block", rule_msg=None, log=[log])  # fmt: skip


def said(listener: Listener) -> list[str]:
    return [line for line in listener.view.snakemakes.said() if not line.startswith("0 of 6 runs")]


def test_only_what_matters_is_said(listener: Listener, tmp_path: Path) -> None:
    hear(listener, "Select jobs to execute...")
    hear(listener, "Execute 1 jobs...", event="job_started", jobs=[1])
    hear(listener, "Rule: run_block", event="job_info", jobid=1)
    hear(listener, "the clock is wrong", logging.WARNING)
    (tmp_path / "1.log").write_text("x.py:3: RuntimeWarning: overflow\n  np.exp(x)\n")
    hear(listener, "Finished jobid: 1", event="job_finished", job_id=1)
    hear(listener, None, event="progress", done=1, total=2)
    hear(listener, 'WorkflowError in file "/x/common.smk", line 3:\nThe folder is gone.\n  File "/x/common.smk", line 3, in <module>', logging.ERROR, event="error", exception="WorkflowError")  # fmt: skip
    hear(listener, "Elapsed time: 3")
    listener.close()
    assert said(listener) == [
        "Study x: 2 jobs, 6 runs.",
        "the clock is wrong",
        f"block x/1 says: x.py:3: RuntimeWarning: overflow (log: {tmp_path / '1.log'})",
        "The folder is gone.",
    ]


def test_a_job_that_is_tried_again_and_ends_well_has_not_failed(listener: Listener, tmp_path: Path) -> None:
    log = str(tmp_path / "1.log")
    for _ in range(2):
        failing(listener, 1, log)
        hear(listener, "Trying to restart job 1.")
        assert listener.view.estimate is not None and listener.view.estimate.failed() == []
    hear(listener, "Finished jobid: 1", event="job_finished", job_id=1)
    failing(listener, 2, log)
    hear(listener, "Exiting because a job execution failed. Look above for error messages", logging.ERROR)
    hear(listener, "WorkflowError:\nAt least one job did not complete successfully.", logging.ERROR, event="error", exception="WorkflowError")  # fmt: skip
    listener.view.well = False
    listener.close()
    again = "Tried again: block x/1"
    failure = ["  It ended with exit status 3 and left no words in its log.", f"  Log: {log}"]
    assert said(listener)[1:-1] == ["Failed: block x/1", *failure, again, again, "Failed: block x/2", *failure]
    assert said(listener)[-1].startswith("1 of 2 jobs failed: block x/2. What is finished is kept;")


@pytest.mark.parametrize(
    ("how", "signal_name"),
    [
        ("died with <Signals.SIGTERM: 15>", "SIGTERM"),
        ("returned non-zero exit status 143", "SIGTERM"),
        ("died with <Signals.SIGINT: 2>", "SIGINT"),
        ("returned non-zero exit status 129", "SIGHUP"),
    ],
)
def test_a_job_that_the_stop_of_the_call_killed_has_not_failed_even_if_it_ends_first(
    how: str, signal_name: str, listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch system sends SIGTERM to all processes. Where nothing else stops, somebody killed the job, and that is told."""
    told_late = threading.Timer(0.3, listener.view.stopping.set)
    told_late.start()
    failing(listener, 1, str(tmp_path / "1.log"), how)
    told_late.join()
    hear(listener, "Trying to restart job 1.")
    assert said(listener) == ["Study x: 2 jobs, 6 runs."]

    listener.view.stopping.clear()
    monkeypatch.setattr(view.stopping, "HEARD_LATER", 0.1)
    failing(listener, 2, str(tmp_path / "2.log"), how)
    assert said(listener)[1:3] == [
        "Failed: block x/2",
        f"  It was killed ({signal_name}): by hand, or by the system for want of memory.",
    ]


@pytest.mark.parametrize("how", ["returned non-zero exit status 3", "died with <Signals.SIGKILL: 9>"])
def test_a_failure_that_no_stop_explains_is_told_at_once(how: str, listener: Listener, tmp_path: Path) -> None:
    told_late = threading.Timer(0.3, listener.view.stopping.set)
    told_late.start()
    failing(listener, 1, str(tmp_path / "1.log"), how)
    told_late.join()
    assert said(listener)[1] == "Failed: block x/1"


def test_a_snakemake_that_speaks_otherwise_speaks_for_itself(listener: Listener, tmp_path: Path) -> None:
    """An event without what it always had: from then on Snakemake's own words, and plain lines of ours between them."""
    assert listener.view.in_place
    hear(listener, "Finished job", event="job_finished")  # no number
    hear(listener, "Select jobs to execute...")
    assert not listener.view.in_place
    listener.view.well = True
    hear(listener, "Finished jobid: 1", event="job_finished", job_id=1)
    listener.close()
    assert said(listener)[1:4] == ["Finished job", "Select jobs to execute...", "Finished jobid: 1"]
    assert re.fullmatch(r"Done, \d s", said(listener)[-1])
    assert job_log.LOGS_ARE_READ not in os.environ


def test_without_snakemakes_handler_nothing_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Handlers of other names stay where they are, and plain lines go to standard error."""
    logger, other = logging.getLogger("snakemake.logging"), Theirs()
    other.name = "AnotherName"
    monkeypatch.setattr(logger, "handlers", [other])
    found = session.listen(workflow(), str(tmp_path / "x" / "report.html"))
    assert logger.handlers == [other, found]
    found.view.start({1: Job("runs", "block", 1.0, runs=3)}, 1, tmp_path / "progress.log")
    logger.warning("a warning")
    hear(found, "Rule: run_block", event="job_info", jobid=1)
    assert found.view.follower is not None
    found.view.follower.show()
    found.view.well = True
    found.close()
    assert other.said() == ["a warning"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "0 of 3 runs (0 %), about 1 s left: runs"
    assert re.fullmatch(r"Done, \d s", lines[-1])


@pytest.mark.parametrize(
    "words", [["--verbose"], ["--quiet"], ["--quiet=rules"], ["-q"], ["--logger", "x"], ["--cores", "2"]]
)
def test_options_that_ask_for_snakemakes_view(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["snakemake", *words])
    output = {"quiet": {1}, "verbose": "--verbose" in words, "debug_dag": False, "log_handler_settings": {"x": 1} if "--logger" in words else {}}  # fmt: skip
    assert session.wants_snakemakes_view(workflow(output_settings=SimpleNamespace(**output))) == (words[0] != "--cores")


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("DataError: no column\n", "DataError: no column"),
        ("x.py:1: RuntimeWarning: overflow\n  exp(x)\nCheckFailed: worst\n\n", "CheckFailed: worst"),
        ('Traceback (most recent call last):\n  File "x.py", line 1, in <module>\n    raise ValueError(\nValueError: one\nand two\n', "ValueError: one and two"),
        ('Traceback (most recent call last):\n  File "x.py", line 1, in <module>\n    f()\nstudy.files.writing.Damaged: x is damaged\n', "study.files.writing.Damaged: x is damaged"),
        (1000 * "x", 399 * "x" + "…"),
    ],
)  # fmt: skip
def test_the_reason_is_the_last_words_of_the_log(log: str, words: str, tmp_path: Path) -> None:
    own, empty, none = tmp_path / "own.log", tmp_path / "empty.log", tmp_path / "none.log"
    own.write_text(log)
    empty.write_text("\n")
    assert job_log.reason([none, empty, own]) == (words, str(own))
    assert job_log.reason([none, empty], [none, empty]) == ("", "")


def test_of_a_clusters_log_the_error_is_the_reason(tmp_path: Path) -> None:
    """Snakemake's words stand there too, and end with one that says nothing."""
    own, clusters = tmp_path / "own.log", tmp_path / "7.log"
    own.write_text("")
    clusters.write_text(
        "srun: error: something that was mended\nslurmstepd: error: JOB 7 exceeded memory limit (900 > 800), being killed\nsrun: error: n2: task 0: Killed\n"
        "Exiting because a job execution failed. Look above for error messages\nWorkflowError:\nAt least one job did not complete successfully.\n"
    )
    reason = "slurmstepd: error: JOB 7 exceeded memory limit (900 > 800), being killed"
    assert job_log.reason([own], [clusters]) == (reason, str(clusters))


JOB = """
    import os, sys
    from types import SimpleNamespace
    snakemake = SimpleNamespace(log=[sys.argv[1]], rule=sys.argv[2])
    from study.files import writing
    if sys.argv[1] != "/dev/full":
        print("a library's words", flush=True)
    with writing.ending_in_words(ValueError):
        raise ValueError("the last words")
"""


@pytest.mark.parametrize(
    ("read", "rule", "log", "kept"),
    [(True, "run_block", "x.log", True), (True, "plan", "x.log", False), (False, "run_block", "x.log", False)],
)
def test_a_job_writes_to_its_log_if_somebody_reads_it(
    read: bool, rule: str, log: str, kept: bool, tmp_path: Path
) -> None:
    done = run_job(tmp_path / log, rule, read)
    words = "a library's words\nValueError: the last words\n"
    assert done.returncode == 1
    assert done.stdout + done.stderr == ("" if kept else words)
    assert (tmp_path / log).exists() == kept
    if kept:
        assert (tmp_path / log).read_text() == words


def test_a_full_disk_does_not_swallow_the_last_words() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    assert run_job(Path("/dev/full"), "run_block", True).stderr == "ValueError: the last words\n"


def run_job(log: Path, rule: str, read: bool) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow" / "scripts")}
    environment |= {job_log.LOGS_ARE_READ: "1"} if read else {}
    command = [sys.executable, "-c", textwrap.dedent(JOB), str(log), rule]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
