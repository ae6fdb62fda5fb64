"""Writing files so that no reader, and no killed job, ever leaves or sees half of one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(target: str | Path) -> Iterator[Path]:
    """A path beside ``target`` to write to; it becomes ``target`` if the block ends well and is removed if it does not."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.stem}.{secrets.token_hex(8)}{target.suffix}")
    try:
        yield aside
        aside.replace(target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
