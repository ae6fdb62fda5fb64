"""Tasks: what the network sees and what it is asked for.

To add a generated task: a class in a file of this folder, and its name in ``GENERATED``.
"""

from __future__ import annotations

from rnn_core.choices import Registry
from rnn_core.tasks.base import Batch, Task
from rnn_core.tasks.generated import GeneratedTask, InputMean, WhiteNoise
from rnn_core.tasks.sequences import Sequences, SequenceTask, digits, split

GENERATED: Registry[type[GeneratedTask]] = Registry(
    "generated tasks", {"white_noise": WhiteNoise, "input_mean": InputMean}
)

__all__ = [
    "GENERATED",
    "Batch",
    "GeneratedTask",
    "InputMean",
    "SequenceTask",
    "Sequences",
    "Task",
    "WhiteNoise",
    "digits",
    "split",
]
