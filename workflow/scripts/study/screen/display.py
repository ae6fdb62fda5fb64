"""The screen: lines that stay, and below them one live line that is written over and over.

In a terminal the live line is drawn again whenever it changes. What others write there (a library's warning, a job that cannot reach
its log) is caught and set above it. So no two messages share a line. In a log, or in a terminal that calls itself dumb, there are
plain lines only. There the live line is written when its phase changes, and every ten seconds.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

LINE_EVERY = 10.0  # seconds between two live lines where they are not drawn over each other
WIDEST = 100  # columns of the live line at most
FALLBACK_COLUMNS = 80  # where the terminal does not tell its width
HOLD = 0.3  # seconds that others' words wait before they are shown
FREE = 3  # columns right of the live line: the terminal's own ^C, and one, for a full line makes some terminals scroll
BAR = (10, 24)  # fewest and most columns of the bar
COLOURS = {"red": "\x1b[31m", "yellow": "\x1b[33m", "green": "\x1b[32m"}
PLAIN = "\x1b[0m"
TO_LINE_START = "\r\x1b[K"  # and empty the line


class Screen:
    """Where the words of one call of Snakemake go.

    Args:
        stream: the terminal or log.
        coloured: False where the user asked for no colours; ``NO_COLOR`` is respected besides.

    Attributes:
        live: whether there is a live line that is drawn over and over.
    """

    def __init__(self, stream: TextIO, coloured: bool = True) -> None:
        self.stream = stream
        self.live = bool(stream.isatty()) and os.environ.get("TERM") != "dumb"
        self.coloured = coloured and self.live and not os.environ.get("NO_COLOR")
        self._lock = threading.RLock()
        self._line = ""
        self._share: float | None = None
        self._phase: str | None = None
        self._last = 0.0
        self._log: Path | None = None
        self._caught: _CaughtWriters | None = None

    def keep_log(self, file: Path) -> None:
        """From now on the live lines are written to this file too, as they are to a log."""
        self._log = file
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)

    def own_terminal(self) -> None:
        """Catch what others, and this process's jobs, write to the terminal. Without a live line nothing happens."""
        if self.live and self._caught is None:
            with suppress(OSError, ValueError):  # a stream without a file descriptor
                self._caught = _CaughtWriters(self)
                self.stream = self._caught.terminal

    def silence_others(self) -> None:
        """From now on drop what others write. Jobs that are stopped have nothing to say that matters."""
        if self._caught is not None:
            self._caught.silenced.set()

    def say(self, text: str, colour: str | None = None) -> None:
        """Lines that stay."""
        with self._lock:
            shown = f"{COLOURS[colour]}{text}{PLAIN}" if colour and self.coloured else text
            self._write((TO_LINE_START if self.live else "") + shown + "\n" + self._drawn())

    def show(self, line: str, phase: str, share: float | None = None) -> None:
        """Show the live line.

        Args:
            line: its text.
            phase: what is going on. A new phase is worth a line in a log.
            share: what the bar shows, 0 to 1; None for no bar.
        """
        with self._lock:
            due = phase != self._phase or time.monotonic() - self._last >= LINE_EVERY
            changed = (line, share) != (self._line, self._share)
            self._line, self._share = line, share
            if due:
                self._phase, self._last = phase, time.monotonic()
                self._keep(line)
            if self.live and changed:
                self._write(TO_LINE_START + self._drawn())
            elif due and not self.live:
                self._write(line + "\n")

    def clear(self) -> None:
        """Take the live line away."""
        with self._lock:
            if self.live and self._line:
                self._write(TO_LINE_START)
            self._line = ""

    def close(self) -> None:
        """Take the live line away, and give the terminal back."""
        self.clear()
        if self._caught is not None:
            self._caught.release()
            self._caught = None

    def _drawn(self) -> str:
        """The live line, cut to the terminal's width. It never wraps, even if the terminal adds a ``^C``."""
        if not (self.live and self._line):
            return ""
        columns = min(self._columns() - FREE, WIDEST)
        line = self._line[: max(columns, 0)]
        width = min(columns - len(line) - 4, BAR[1])
        if self._share is None or width < BAR[0]:
            return line
        full = round(min(max(self._share, 0.0), 1.0) * width)
        return f"{line}  [{full * '#'}{(width - full) * '.'}]"

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or FALLBACK_COLUMNS
        except (OSError, ValueError):
            return FALLBACK_COLUMNS

    def _keep(self, line: str) -> None:
        if self._log is not None:  # of a full disk the jobs tell
            with suppress(OSError), self._log.open("a", encoding="utf-8") as log:
                log.write(line + "\n")

    def _write(self, text: str) -> None:
        """In one piece. A reader that has gone (``| head``, a closed terminal) is no reason to stop the study."""
        encoding = self.stream.encoding or "utf-8"
        with suppress(OSError, ValueError):
            self.stream.write(text.encode(encoding, "replace").decode(encoding))
            self.stream.flush()


class _CaughtWriters:
    """Standard output and error lead into a pipe where they are the terminal. A thread gives its lines to the screen.

    Attributes:
        terminal: the terminal itself, for the screen alone.
        silenced: set when nothing more is to be shown of the others.
    """

    def __init__(self, screen: Screen) -> None:
        descriptor = screen.stream.fileno()
        self.terminal = open(os.dup(descriptor), "w", encoding=screen.stream.encoding, errors="replace")  # noqa: PTH123, SIM115 - a descriptor, kept open
        self.silenced = threading.Event()
        self._screen, self._given = screen, screen.stream
        self._standard = {number: os.dup(number) for number in {1, 2, descriptor} if os.isatty(number)}
        read, write = os.pipe()
        for number in self._standard:
            os.dup2(write, number)
        os.close(write)
        self._thread = threading.Thread(target=self._pass_on, args=(read,), daemon=True)
        self._thread.start()

    def _pass_on(self, read: int) -> None:
        """Show what arrives, a moment later. A Ctrl-C makes jobs speak before anybody knows that it was one."""
        incomplete = b""
        while chunk := os.read(read, 65536):
            if self.silenced.wait(HOLD):
                continue  # somebody must read, or the writers wait for ever
            *lines, incomplete = (incomplete + chunk).split(b"\n")
            for line in lines:
                self._show(line)
        self._show(incomplete)
        os.close(read)

    def _show(self, line: bytes) -> None:
        written = line.decode(errors="replace").rstrip()
        text = written.rpartition("\r")[2].expandtabs()  # of a line that was drawn over: its last form
        if text and not self.silenced.is_set():
            self._screen.say(text)

    def release(self) -> None:
        """Others write to the terminal again."""
        for number, terminal in self._standard.items():
            os.dup2(terminal, number)
            os.close(terminal)
        self._standard = {}
        self._thread.join(timeout=3 * HOLD)  # a process that lives on may hold the pipe open
        self._screen.stream = self._given
