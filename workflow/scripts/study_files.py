"""Writing files so that no reader, and no killed job, ever leaves or sees half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(target: str | Path) -> Iterator[Path]:
    """A path beside ``target`` to write to; it becomes ``target`` if the block ends well and is removed if it does not."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}.", suffix=target.suffix)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o666 & ~_umask())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def _umask() -> int:
    """The process's umask: temporary files are private, results are as public as any file."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
