"""A small terminal to run commands in: what a person would see on its screen, line by line, and what was there before a redraw."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 180.0  # seconds, for what takes twenty
_CONTROL = re.compile(r"\x1b\[([\d;?]*)([A-Za-z])")


@dataclass
class Terminal:
    """Keeps every line that was written, wraps at its width, and knows carriage return, newline, clearing, cursor up and colours.

    Attributes:
        lines: all lines from the top of the scrollback; the cursor's is among them.
        redrawn: what stood in a line each time that the cursor went back to its start.
    """

    columns: int = 100
    lines: list[str] = field(default_factory=lambda: [""])
    redrawn: list[str] = field(default_factory=list)
    row: int = 0
    column: int = 0

    def feed(self, text: str) -> None:
        at = 0
        while at < len(text):
            control = _CONTROL.match(text, at)
            if control:
                self._obey(control[1], control[2])
                at = control.end()
                continue
            self._put(text[at])
            at += 1

    def _put(self, character: str) -> None:
        if character == "\r":
            self.redrawn.append(self.lines[self.row])
            self.column = 0
        elif character == "\n":
            self._down()
        elif character >= " ":
            if self.column == self.columns:
                self._down()
                self.column = 0
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1
        else:
            raise AssertionError(f"a control character that no terminal needs to know: {character!r}")

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")

    def _obey(self, argument: str, command: str) -> None:
        if command == "K" and argument in ("", "0"):
            self.lines[self.row] = self.lines[self.row][: self.column]
        elif command == "A":
            self.row = max(0, self.row - int(argument or 1))
        elif command != "m":
            raise AssertionError(f"a control sequence that this terminal does not know: {argument}{command}")

    def screen(self) -> list[str]:
        """The lines that are not empty."""
        return [line.rstrip() for line in self.lines if line.strip()]


@dataclass(frozen=True)
class Ended:
    """A command that has ended.

    Attributes:
        written: all that it wrote to the terminal.
        status: its exit status, negative for a signal.
        seconds: from the action, or if there was none from the beginning, to the end.
    """

    written: str
    status: int
    seconds: float

    def terminal(self, columns: int = 100) -> Terminal:
        found = Terminal(columns)
        found.feed(self.written)
        return found


def run_in_terminal(
    command: list[str],
    folder: Path,
    environment: dict[str, str],
    columns: int = 100,
    when: str | None = None,
    action: Callable[[int, int], None] | None = None,
) -> Ended:
    """Run a command in a terminal of its own; once it has written ``when`` (a pattern), ``action`` gets its process and the terminal."""
    process, terminal = pty.fork()
    if process == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        os.chdir(folder)
        os.execvpe(command[0], command, environment)
    written, acted, begun = b"", 0.0, time.monotonic()
    while time.monotonic() - begun < PATIENCE:
        if select.select([terminal], [], [], 0.05)[0]:
            try:
                written += os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
        if when and action and not acted and re.search(when, written.decode(errors="replace")):
            acted = time.monotonic()
            action(process, terminal)
    else:
        os.kill(process, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    os.close(terminal)
    assert acted or when is None, f"never written: {when}\n{written.decode(errors='replace')}"
    return Ended(written.decode(errors="replace"), status, time.monotonic() - (acted or begun))
