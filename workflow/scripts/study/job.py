"""What every job that a rule runs has in common."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from study.files.writing import ending_in_words
from study.screen.progress import Record, recorded
from study.tables import store

LOOK_FOR_GARBAGE = 50_000  # objects made between two looks; after Python's 700 a figure takes a tenth longer


@contextmanager
def running(
    snakemake: Any, expected: Mapping[type[Exception], str] | None = None, pandas: bool = False
) -> Iterator[Record]:
    """A job from its first line to its last: one thread, a record of time and memory, and an error's words without traceback.

    One thread gives the same bits at any ``--cores``, and takes no more than the job was given.

    Args:
        expected: errors that need no traceback -> the words before the error's own. Empty words become the error's name.
        pandas: whether the job uses pandas. If not, pyarrow does not import it, which saves 0.35 s.
    """
    if pandas:
        gc.set_threshold(LOOK_FOR_GARBAGE, 20, 100)
    else:
        store.leave_pandas_out()
    with ExitStack() as stack:
        stack.enter_context(ending_in_words())
        for error, words in (expected or {}).items():
            stack.enter_context(ending_in_words(error, before=words))
        stack.enter_context(threadpool_limits(1))
        yield stack.enter_context(recorded(snakemake))
    if Path(sys.argv[0]).parts[-3:-1] == (".snakemake", "scripts"):  # a process of its own
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # taking libraries down politely takes up to half a second
