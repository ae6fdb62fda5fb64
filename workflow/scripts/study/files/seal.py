"""A seal on every file of a study: the SHA-256 of all its bytes.

A Parquet file keeps it in its footer. Parquet's page checksums cover the data of the pages alone. They miss a flipped bit in a page's
header or in the footer: in a count, an offset, a unit, a line of provenance. The seal covers the whole file. A text (the facts of a
figure, the report) keeps it in a line of its own. A picture's seal stands in the facts beside it.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from study.files.writing import Damaged, reading

KEY = b"content"  # in the footer's metadata
BLANK = b"sha256:" + 64 * b"0"  # what the digest is taken with, in the digest's own place
_SEAL = re.compile(rb"sha256:[0-9a-f]{64}")
_LINE = re.compile(rb'"sealed"(?:: | content=)"(sha256:[0-9a-f]{64})"')  # of JSON, or of HTML
CHANGED = "its content is not what was written"
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


def seal_of(file: str | Path) -> str:
    """What the seal of a file says its content is; nothing is checked.

    Raises:
        Damaged: it has no seal.
        FileTrouble: it cannot be read.
    """
    file = Path(file)
    with reading(file):
        start = _place(file)
        if start is None:
            raise Damaged(file, "it has no whole footer, or no seal")
        with file.open("rb") as opened:
            opened.seek(start)
            return opened.read(len(BLANK)).decode()


def check(file: str | Path) -> None:
    """Refuse a file that does not hold the bytes that were written.

    Raises:
        Damaged: a byte differs.
        FileTrouble: it cannot be read, or there is no such file. Another job may just have put it aside.
    """
    file = Path(file)
    with reading(file):
        start, size = _place(file), file.stat().st_size
        if start is None:
            raise Damaged(file, "it is empty" if size == 0 else f"it has no whole footer (of {size} bytes), or no seal")
        with file.open("rb") as opened:
            opened.seek(start)
            written = opened.read(len(BLANK))
        if written != _digest(file, start):
            raise Damaged(file, CHANGED)


def sealed_text(text: str) -> str:
    """A text with its digest in the first place that holds ``"sealed": "BLANK"``, or ``name="sealed" content="BLANK"``."""
    content = text.encode()
    line = _LINE.search(content)
    if line is None or line[1] != BLANK:
        raise ValueError("the text has no blank seal")
    return text.replace(BLANK.decode(), digest_of(content), 1)


def check_text(file: str | Path) -> str:
    """The content of a file that ``sealed_text`` made.

    Raises:
        Damaged: it is not what was written.
        FileTrouble: it cannot be read, or there is none.
    """
    with reading(file):
        content = Path(file).read_bytes()
    line = _LINE.search(content)
    if line is None:
        raise Damaged(file, "it has no seal" if content else "it is empty")
    if line[1].decode() != digest_of(content[: line.start(1)] + BLANK + content[line.end(1) :]):
        raise Damaged(file, CHANGED)
    return content.decode()


def check_content(file: str | Path, digest: str) -> bytes:
    """The content of a file whose digest stands elsewhere.

    Raises:
        Damaged: it is not what was written.
        FileTrouble: it cannot be read, or there is none.
    """
    with reading(file):
        content = Path(file).read_bytes()
    if digest_of(content) != digest:
        raise Damaged(file, CHANGED if content else "it is empty")
    return content


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _place(file: Path) -> int | None:
    """Where the seal starts; None if the end of the file is not a footer with one seal."""
    with file.open("rb") as opened:
        size = opened.seek(0, 2)
        opened.seek(max(size - _TAIL, 0))
        length = int.from_bytes(opened.read(4), "little") + _TAIL
        if length > size:
            return None
        opened.seek(size - length)
        seals = list(_SEAL.finditer(opened.read()))
    return size - length + seals[0].start() if len(seals) == 1 else None


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
