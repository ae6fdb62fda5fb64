"""One look at a recurrent model of your own: what its gradients do on their way back, for a notebook.

| file | holds |
|---|---|
| ``probe.py`` | ``probe``: one call, and ``Probe``, what it found |
| ``derivatives.py`` | ``check_derivatives``: the module's own derivatives against differences of its steps |
| ``whole.py`` | ``InputTrace``: of a model that shows whole sequences alone, the norm of dL/dx_t |
| ``layers.py`` | torch's stacked RNN, GRU and LSTM, step by step |
| ``drawing.py`` | lines on axes that the caller brings |
"""

from rnn_core.probing.derivatives import check_derivatives
from rnn_core.probing.probe import Probe, probe
from rnn_core.probing.whole import InputTrace

__all__ = ["InputTrace", "Probe", "check_derivatives", "probe"]
