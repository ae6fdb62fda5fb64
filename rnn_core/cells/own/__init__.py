"""A user's own torch function or module as a cell.

| file | holds |
|---|---|
| ``cell.py`` | ``TorchCell``: what the engine asks of a cell, by any step (x_t, state) -> state |
| ``learning.py`` | what it learns from inputs: the form of its state, its start, whether its step is one |
| ``layout.py`` | how a state holds its tensors, one container inside the other |
| ``state.py`` | the parts of a state by name, and how the module takes and returns them |
| ``step.py`` | one step, taken and differentiated, with given parameters |
| ``checks.py`` | whether a step is a function of x_t and the state alone, sample by sample |

``cell.py`` and ``learning.py`` are imported before such a cell is made: the others import torch.
"""

from rnn_core.cells.own.cell import TorchCell

__all__ = ["TorchCell"]
