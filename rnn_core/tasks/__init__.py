"""Tasks: what the network sees and what it is asked for.

To add a generated task: a class in a file of this folder, and its name in ``GENERATED``.
"""

from __future__ import annotations

from collections.abc import Callable

from rnn_core.choices import Registry
from rnn_core.tasks.base import Batch, Task
from rnn_core.tasks.copy_memory import CopyMemory
from rnn_core.tasks.generated import GeneratedTask, InputMean, WhiteNoise
from rnn_core.tasks.marked_numbers import Adding, Multiplication
from rnn_core.tasks.sequences import Sequences, SequenceTask, digits, permuted_digits, split
from rnn_core.tasks.temporal_order import TemporalOrder, TemporalOrder3

GENERATED: Registry[type[GeneratedTask]] = Registry(
    "generated tasks",
    {
        "white_noise": WhiteNoise,
        "input_mean": InputMean,
        "adding": Adding,
        "multiplication": Multiplication,
        "copy_memory": CopyMemory,
        "temporal_order": TemporalOrder,
        "temporal_order_3": TemporalOrder3,
    },
)
PACKAGED: Registry[Callable[[], Sequences]] = Registry(
    "tasks on packaged sequences", {"digits": digits, "permuted_digits": permuted_digits}
)

__all__ = [
    "GENERATED",
    "PACKAGED",
    "Adding",
    "Batch",
    "CopyMemory",
    "GeneratedTask",
    "InputMean",
    "Multiplication",
    "SequenceTask",
    "Sequences",
    "Task",
    "TemporalOrder",
    "TemporalOrder3",
    "WhiteNoise",
    "digits",
    "permuted_digits",
    "split",
]
