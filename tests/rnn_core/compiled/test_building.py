"""How the fast path's library is built, kept, and left alone where it is not ours: each call in a fresh process with a cache of its own."""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rnn_core.compiled import build

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [
    pytest.mark.skipif(build.library().handle is None, reason=f"no fast path here: {build.library().why}"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to stand in for"),
]

STAND_IN = """#!/bin/sh
case "$*" in *--version*) exec {true} "$@";; esac
echo "$*" >> {calls}
while [ "$1" != -o ]; do shift; done
cp {made} "$2"
"""


@functools.cache
def quick_gcc() -> Path:
    """A compiler that copies what gcc has made of our sources. What is made is tested elsewhere, and takes gcc seconds each time."""
    folder = Path(tempfile.mkdtemp(prefix="quick-gcc"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    true, made, script = shutil.which("gcc"), folder / "made.so", folder / "gcc"
    assert true
    subprocess.run([true, *build.FLAGS, "-O0", "-o", str(made), str(build.SOURCES[0])], check=True)
    script.write_text(STAND_IN.format(true=true, made=made, calls=folder / "calls"))
    script.chmod(0o755)
    return script


def elsewhere(folder: Path, program: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """A fresh process with a cache of its own, and ``quick_gcc`` if no other PATH is given."""
    told = "from rnn_core import compiled; print(compiled.describe())"
    inherited = {name: value for name, value in os.environ.items() if name != "RNN_CORE_COMPILED"}
    own = {"XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder / "tmp"), "PATH": quick_path()}
    (folder / "tmp").mkdir(exist_ok=True)
    call = [sys.executable, "-c", program or told]
    environment = {**inherited, **own, **variables}
    return subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def quick_path() -> str:
    return f"{quick_gcc().parent}:{os.environ['PATH']}"


def calls() -> list[str]:
    """With what ``quick_gcc`` was called to compile, so far."""
    noted = quick_gcc().with_name("calls")
    return noted.read_text().splitlines() if noted.exists() else []


def compiler(folder: Path, does: str) -> str:
    """A PATH on which gcc is a shell script of ours, which may call ``quick_gcc``."""
    own = folder / f"gcc-{abs(hash(does))}"
    own.mkdir(exist_ok=True)
    (own / "gcc").write_text(f"#!/bin/sh\nTRUE={quick_gcc()}\n{does}\n")
    (own / "gcc").chmod(0o755)
    return f"{own}:{os.environ['PATH']}"


# All that start together meet: half of the library lies there for a second.
IN_TWO_HALVES = """case "$*" in *--version*) exec $TRUE "$@";; esac
while [ "$1" != -o ]; do shift; done
$TRUE -o "$2.whole"; head -c 50000 "$2.whole" > "$2"; sleep 1; exec $TRUE -o "$2"
"""


def test_it_is_built_once(tmp_path: Path) -> None:
    """Every process compiles, or many that start together load half a library."""
    slowly = {"PATH": compiler(tmp_path, IN_TWO_HALVES)}
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: elsewhere(tmp_path, **slowly), range(4)))
    assert {run.stdout.strip().partition(" for")[0] for run in found} == {"compiled"}, found
    library = library_of(tmp_path)
    assert not list(library.parent.glob("build-*"))
    before = library.stat().st_mtime_ns
    elsewhere(tmp_path, **slowly)
    assert library.stat().st_mtime_ns == before


def test_it_is_built_with_our_flags_and_the_users(tmp_path: Path) -> None:
    """A library for another processor, or with calls of memcpy; or one that does not know what the user has asked for."""
    before = len(calls())
    said = [elsewhere(tmp_path, RNN_CORE_CFLAGS=flags).stdout for flags in ("-mno-avx512f", "-mno-avx512f", "-O1")]
    built = [call.split() for call in calls()[before:]]
    assert len(built) == 2 and said[0] == said[1] != said[2]
    for call, own in zip(built, ("-mno-avx512f", "-O1"), strict=True):
        assert {*build.FLAGS, build.NO_MEMCPY[0], own, str(build.SOURCES[0])} <= set(call)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RNN_CORE_COMPILED": "off"}, "readable (RNN_CORE_COMPILED=off)"),
        ({"CC": "no-such-compiler"}, "readable (no C compiler"),
        ({"CC": "false"}, "readable (false failed"),
    ],
)
def test_without_it_the_readable_engine_computes(tmp_path: Path, variables: dict[str, str], said: str) -> None:
    """A machine without a compiler cannot run the study."""
    run = elsewhere(tmp_path, **variables)
    assert run.stdout.startswith(said), (run.stdout, run.stderr)
    sums = "import rnn_core as rc; print(rc.run(rc.Experiment(sequence_length=5)).summary['growth_rate'])"
    assert float(elsewhere(tmp_path, sums, **variables).stdout) < 0


def library_of(folder: Path) -> Path:
    """The one library in a fresh process's cache."""
    (file,) = (folder / "cache" / "rnn_core").glob("*.so")
    return file


def test_a_damaged_library_is_built_again(tmp_path: Path) -> None:
    """A short file, as after a power cut, kills every process that loads it."""
    elsewhere(tmp_path)
    for damage in (b"", library_of(tmp_path).read_bytes()[:20_000], b"x" * 1000):
        library_of(tmp_path).write_bytes(damage)
        assert elsewhere(tmp_path).stdout.startswith("compiled")
        assert library_of(tmp_path).stat().st_size > 50_000


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("whose", ["file", "folder", "anybody can write"])
def test_the_library_of_somebody_else_is_not_loaded(tmp_path: Path, whose: str) -> None:
    """In a folder that others can write, their code runs."""
    elsewhere(tmp_path)
    file = library_of(tmp_path)
    before = file.stat().st_ino
    if whose == "anybody can write":
        file.parent.chmod(0o777)
    else:
        os.chown(file if whose == "file" else file.parent, 12345, 12345)
    run = elsewhere(tmp_path)
    assert run.stdout.startswith("compiled"), run  # from the folder for temporary files
    assert file.stat().st_ino == before
    assert list((tmp_path / "tmp").glob("rnn_core-*/*.so"))


def test_a_compiler_with_options_and_a_user_without_a_home(tmp_path: Path) -> None:
    """CC=\"gcc -O2\", as many environments set it, is taken for the name of a program; a container's user stops the run."""
    assert elsewhere(tmp_path, CC="gcc -O2").stdout.startswith("compiled")
    homeless = "import pathlib; pathlib.Path.expanduser = lambda self: (_ for _ in ()).throw(RuntimeError('no home'))\n"
    told = (
        homeless
        + "import os; os.environ.pop('XDG_CACHE_HOME'); from rnn_core import compiled; print(compiled.describe())"
    )
    assert elsewhere(tmp_path, told).stdout.startswith("compiled")


def test_requiring_it_says_what_is_missing(tmp_path: Path) -> None:
    """A benchmark measures the readable engine unnoticed."""
    run = elsewhere(tmp_path, CC="no-such-compiler", RNN_CORE_COMPILED="require")
    assert "RNN_CORE_COMPILED=require, but no C compiler" in run.stderr
    run = elsewhere(tmp_path, RNN_CORE_COMPILED="of")
    assert "RNN_CORE_COMPILED: 'of' is not allowed; it must be auto, off or require" in run.stderr


GARBAGE = """case "$*" in *--version*) exec $TRUE "$@";; esac
while [ "$1" != -o ]; do shift; done; echo garbage > "$2"
"""


def test_garbage_from_a_compiler_is_not_kept(tmp_path: Path) -> None:
    """A compiler that says all is well and writes garbage, even one that is mended in its place later, is the end of the fast path."""
    elsewhere(tmp_path)
    whole = library_of(tmp_path)
    garbage = b"garbage, sealed"
    whole.write_bytes(garbage + hashlib.sha256(garbage).digest())
    whole.chmod(0o700)
    assert elsewhere(tmp_path).stdout.startswith("compiled")
    assert whole.stat().st_size > 50_000 and not list((tmp_path / "tmp").glob("rnn_core-*")), "built elsewhere"
    other = tmp_path / "other"
    other.mkdir()
    run = elsewhere(other, CC="gcc", PATH=compiler(tmp_path, GARBAGE))
    assert run.stdout.startswith("readable (the compiler's library cannot be loaded (")
    assert "rnn_core computes without its compiled steps: the compiler's library cannot be loaded" in run.stderr
    assert list((other / "cache" / "rnn_core").glob("*.so")) == []
    assert elsewhere(other).stdout.startswith("compiled")


def test_the_library_of_another_compiler_is_another_one(tmp_path: Path) -> None:
    """What gcc -ffast-math made is used by every later call, and rows of two compilers stand in one cache."""
    other = compiler(tmp_path, 'case "$*" in *--version*) echo another 99.0;; *) exec $TRUE "$@";; esac')
    said = [elsewhere(tmp_path, **which).stdout for which in ({}, {"CC": "gcc -ffast-math"}, {"PATH": other}, {}, {"CC": "gcc -ffast-math"})]  # fmt: skip
    assert all(text.startswith("compiled") for text in said)
    assert len(set(said[:3])) == 3
    assert said[3:] == said[:2]
    assert len(list((tmp_path / "cache" / "rnn_core").glob("*.so"))) == 3


def test_a_compiler_is_asked_for_its_version_once(tmp_path: Path) -> None:
    """Every process of a study asks again; or a compiler that was replaced in its place passes for the old one."""
    count = f"echo x >> {tmp_path}/asked\n" + 'exec $TRUE "$@"'
    path = compiler(tmp_path, count)
    first = elsewhere(tmp_path, PATH=path).stdout
    calls = (tmp_path / "asked").read_text()
    assert elsewhere(tmp_path, PATH=path).stdout == first
    assert (tmp_path / "asked").read_text() == calls
    script = Path(path.partition(":")[0]) / "gcc"
    script.write_text("#!/bin/sh\ncase \"$*\" in *--version*) echo new 100.0;; *) exec " + str(quick_gcc()) + ' "$@";; esac\n')  # fmt: skip
    second = elsewhere(tmp_path, PATH=path).stdout
    assert second.startswith("compiled") and second != first


@pytest.mark.parametrize("when", ["asked", "compiling"])
def test_a_compiler_that_hangs_is_left_with_a_word(tmp_path: Path, when: str) -> None:
    """The study waits for ever; or every job waits again; or what the compiler has started lives on."""
    hang = f"sleep 1000 & echo $! >> {tmp_path}/started; wait"
    does = hang if when == "asked" else f'case "$*" in *--version*) echo slow 1.0;; *) {hang};; esac'
    program = "from rnn_core.compiled import build\nbuild.COMPILE_WITHIN = build.ANSWER_WITHIN = 0.5\nfrom rnn_core import compiled\nprint(compiled.describe())"  # fmt: skip
    variables = {"CC": "gcc", "PATH": compiler(tmp_path, does)}
    for _ in range(2):
        run = elsewhere(tmp_path, program, **variables)
        assert run.stdout.strip() == "readable (gcc did not end within 0.5 s)", run
        assert "computes without its compiled steps: gcc did not end within 0.5 s" in run.stderr
    (started,) = (tmp_path / "started").read_text().split()  # the second process did not try
    assert not Path(f"/proc/{started}").exists() or "sleep" not in Path(f"/proc/{started}/cmdline").read_text()
    assert not list((tmp_path / "cache" / "rnn_core").glob("build-*"))


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path: Path) -> None:
    hang = f'case "$*" in *--version*) exec $TRUE "$@";; esac; touch {tmp_path}/builds; exec sleep 1000'
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "CC": "gcc", "PATH": compiler(tmp_path, hang)}  # fmt: skip
    call = [sys.executable, "-c", "from rnn_core import compiled; compiled.describe()"]
    with subprocess.Popen(call, cwd=ROOT, env=environment) as running:
        while not (tmp_path / "builds").exists():
            assert running.poll() is None
            time.sleep(0.02)
        (left,) = (tmp_path / "cache" / "rnn_core").glob("build-*")
        assert elsewhere(tmp_path).stdout.startswith("compiled")
        assert left.exists(), "a living build's files were taken away"
        library_of(tmp_path).unlink()
        for child in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        running.kill()
    assert elsewhere(tmp_path).stdout.startswith("compiled")
    assert not left.exists()


def test_a_node_without_a_compiler_uses_what_another_node_left(tmp_path: Path) -> None:
    made = elsewhere(tmp_path).stdout
    assert made.startswith("compiled")
    assert elsewhere(tmp_path, PATH=str(tmp_path)).stdout == made


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """A read-only home stops the run, or leaves it slow."""
    (tmp_path / "cache").write_text("a file, not a folder")
    assert elsewhere(tmp_path).stdout.startswith("compiled")
