"""One call of Snakemake: the study's lines in the place of Snakemake's words.

This is the only module that knows how Snakemake speaks; checked with 9.27. The ``Listener`` stands in front of Snakemake's own stream
handler, and takes its place when a study begins to run. What Snakemake says passes through unchanged in three cases:

- Snakemake is asked for something else: a dry run, ``--lint``, ``--dag``, a plan.
- Somebody asks for its own view: ``STUDY_SCREEN=off``, ``--verbose``, ``--quiet`` or ``--logger``.
- Its internals are not as expected. Then plain lines between its own tell how far the study is.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import Any

from study.screen.view import StudyView

SWITCH = "STUDY_SCREEN"  # =off: Snakemake's own view


class Listener(logging.Handler):
    """Hears what Snakemake says, and decides who shows it: Snakemake, or the study's own view.

    Args:
        workflow: Snakemake's.
        view: the study's.
    """

    def __init__(self, workflow: Any, view: StudyView) -> None:
        super().__init__()
        self.workflow, self.view = workflow, view
        self.decided = self.runs_study = self._told_all = False
        self._early: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Called by Snakemake's logger, with this handler's lock held."""
        try:
            self._decide(record)
            if not self._early or self._early[-1] is not record:
                self.view.hear(record)
        except Exception:  # Snakemake speaks otherwise than expected: let it speak for itself
            with suppress(Exception):
                self.decided = True
                self.view.give_way()
                self._tell_early()
            if self.view.snakemakes is not None:
                self.view.snakemakes.handle(record)

    def _decide(self, record: logging.LogRecord) -> None:
        """Whether this call runs a study. That is known as soon as Snakemake has chosen how jobs are executed."""
        if self.decided:
            return
        plugin = getattr(self.workflow, "_executor_plugin", None)
        if plugin is None:
            if record.getMessage().startswith("Assuming unrestricted shared filesystem"):
                self._early.append(record)
            return
        self.decided = True
        common, targets = plugin.common_settings, set(self.workflow.dag_settings.targets)
        self.runs_study = not (common.dryrun_exec or common.touch_exec or targets == {"plan"})
        if self.runs_study and self.view.snakemakes is not None and not wants_snakemakes_view(self.workflow):
            self.view.take_over()
        self._tell_early()

    def _tell_early(self) -> None:
        """Let Snakemake say what it said before it was known who shows it."""
        early, self._early = self._early, []
        for record in early:
            if not self.view.in_place and self.view.snakemakes is not None:
                self.view.snakemakes.handle(record)

    def close(self) -> None:
        """Called by Snakemake when it has said everything."""
        if not self._told_all:
            self._told_all = True
            with suppress(Exception):
                self._tell_early()
            self.view.end(last_words=self.runs_study)
        super().close()


def listen(workflow: Any, page: str) -> Listener:
    """Stand in front of Snakemake's own stream handler. To be called while the Snakefile is read, in the main process only."""
    logger = logging.getLogger("snakemake.logging")
    snakemakes = next((handler for handler in logger.handlers if handler.name == "DefaultStreamHandler"), None)
    if not (hasattr(snakemakes, "stream") and hasattr(snakemakes, "nocolor")):
        snakemakes = None
    listener = Listener(workflow, StudyView(workflow, snakemakes, page))
    if snakemakes is not None:
        logger.removeHandler(snakemakes)
    logger.addHandler(listener)
    return listener


def wants_snakemakes_view(workflow: Any) -> bool:
    """Whether somebody asked for Snakemake's own view. The profile's ``quiet`` does not ask: it stands in every call."""
    output, execution = workflow.output_settings, workflow.execution_settings
    asked = any(word.startswith(("--quiet", "-q")) for word in sys.argv[1:])
    asked |= output.verbose or output.debug_dag or bool(output.log_handler_settings)
    return asked or execution.no_hooks or execution.debug or os.environ.get(SWITCH, "").lower() == "off"
