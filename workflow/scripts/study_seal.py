"""A seal on every Parquet file: the SHA-256 of all its bytes, kept in its own footer.

Parquet's page checksums cover the pages' data alone. A flipped bit in a page's header or in the footer (a count, an offset, a unit, a
line of provenance) passes them; the seal covers the whole file.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from study_files import Damaged, FileTrouble

KEY = b"content"  # in the footer's metadata
BLANK = b"sha256:" + 64 * b"0"  # what the digest is taken with, in the digest's own place
_SEAL = re.compile(rb"sha256:[0-9a-f]{64}")
_TAIL = 8  # bytes: length of the footer, then the magic word


def seal(file: Path) -> None:
    """Put the digest into a finished file whose footer holds ``KEY: BLANK``."""
    start = _place(file)
    if start is None:
        raise ValueError(f"{file} has no blank seal in its footer")
    digest = _digest(file, start)
    with file.open("r+b") as opened:
        opened.seek(start)
        opened.write(digest)


def check(file: str | Path) -> None:
    """That every byte of ``file`` is the one that was written.

    Raises:
        Damaged: it is not.
        FileTrouble: there is no such file, be it that another job has just put it aside.
    """
    file = Path(file)
    try:
        start = _place(file)
    except FileNotFoundError as error:
        raise FileTrouble(f"{file} has gone; run the same command again and it is made anew.") from error
    if start is None:
        size = file.stat().st_size
        raise Damaged(file, "it is empty" if size == 0 else f"it has no whole footer (of {size} bytes), or no seal")
    with file.open("rb") as opened:
        opened.seek(start)
        found = opened.read(len(BLANK))
    if found != _digest(file, start):
        raise Damaged(file, "its content is not what was written")


def _place(file: Path) -> int | None:
    """Where the seal starts; None if the end of the file is not a footer with one seal."""
    with file.open("rb") as opened:
        size = opened.seek(0, 2)
        opened.seek(max(size - _TAIL, 0))
        length = int.from_bytes(opened.read(4), "little") + _TAIL
        if length > size:
            return None
        opened.seek(size - length)
        found = list(_SEAL.finditer(opened.read()))
    return size - length + found[0].start() if len(found) == 1 else None


def _digest(file: Path, start: int) -> bytes:
    """``sha256:…`` over the file with a blank seal at ``start``."""
    total = hashlib.sha256()
    with file.open("rb") as opened:
        left = start
        while left and (part := opened.read(min(left, 2**20))):
            total.update(part)
            left -= len(part)
        total.update(BLANK)
        opened.seek(start + len(BLANK))
        while part := opened.read(2**20):
            total.update(part)
    return b"sha256:" + total.hexdigest().encode()
