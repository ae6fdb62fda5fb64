"""Tasks: what the network sees and what it is asked for. To add a generated one: a class in a file here and its name below."""

from __future__ import annotations

from rnn_core.tasks.base import Batch, Task
from rnn_core.tasks.generated import InputMean, WhiteNoise
from rnn_core.tasks.sequences import Sequences, SequenceTask, digits, split

GENERATED: dict[str, type[WhiteNoise | InputMean]] = {"white_noise": WhiteNoise, "input_mean": InputMean}

__all__ = ["GENERATED", "Batch", "InputMean", "SequenceTask", "Sequences", "Task", "WhiteNoise", "digits", "split"]
