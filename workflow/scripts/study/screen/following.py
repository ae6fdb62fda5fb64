"""Following a study while it runs: once a second the live line tells how far it is."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from study.cost.forecast import Estimate
from study.screen.display import Screen

EVERY = 1.0  # seconds between two looks at the records
SHARE_OF_A_CORE = 0.005  # that looking may take


class Follower:
    """Shows how far a study is, in a thread that ends with the process.

    Args:
        estimate: the study's jobs.
        screen: where the line goes.
        always: whether the line is shown before any job has begun.
    """

    def __init__(self, estimate: Estimate, screen: Screen, always: bool) -> None:
        self.estimate, self.screen, self.always = estimate, screen, always
        self._stopping, self._ended = False, threading.Event()

    def start(self) -> None:
        """Show the first line, and go on."""
        self.show()
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        pause = EVERY
        while not self._ended.wait(pause):
            begun = time.perf_counter()
            with suppress(Exception):  # the next line is shown even if this one cannot be made
                self.show()
            pause = max(EVERY, (time.perf_counter() - begun) / SHARE_OF_A_CORE)

    def show(self) -> None:
        """Bring the line up to date."""
        progress = self.estimate.look()
        line = "stopping" if self._stopping else progress.line()
        if line and (self.always or self.estimate.hears or progress.finished):
            self.screen.show(line, f"{self._stopping} {progress.stage}", progress.share)

    def stop(self) -> None:
        """From now on the line says that the study is stopping."""
        self._stopping = True
        if self.screen.live:
            self.show()

    def end(self) -> None:
        """Show no further line."""
        self._ended.set()
