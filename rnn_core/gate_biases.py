"""Biases of gates at the start, which decide how long a gated cell remembers before it has learnt anything.

The gate that keeps the state, f of an LSTM or z of a GRU, is σ(b) at rest. Of a minGRU it is 1 - z, so its z has the bias -b.
So a memory fades by a factor of e in -1/ln σ(b) steps, about e^b + ½ of them.

torch adds two biases, b_ih and b_hh. Their sum alone counts in these gates. Here all of it stands in ``bias_ih``, and ``bias_hh`` is zero.
"""

from __future__ import annotations

import numpy as np

from rnn_core.cells.base import Cell


def uniform(cell: Cell, size: int, forget_bias: float) -> np.ndarray:
    """(G·H,): ``forget_bias`` in every unit of the gate that keeps the state, 0 in the others (Gers et al. 2000; Jozefowicz et al. 2015).

    Where 1 minus the gate that writes keeps the state, that gate has the negative.
    """
    keeping, writing = cell.keeping_gate, None if cell.keeping_gate else cell.writing_gate
    signs = [(gate == keeping) * 1.0 - (gate == writing) * 1.0 for gate in cell.gates]
    return np.repeat([sign * forget_bias if sign else 0.0 for sign in signs], size)


def chrono(cell: Cell, rng: np.random.Generator, size: int, longest: int) -> np.ndarray:
    """(G·H,): ln U(1, T_max - 1) in the units of the gate that keeps the state (Tallec & Ollivier 2018).

    Units then remember for between 1 and T_max steps; the mean of their time constants is (T_max + 1)/2. A gate that writes alone
    has the negative: i of an LSTM, z of a minGRU. What is kept and what is written make 1, as in a GRU.

    Args:
        longest: T_max, at least 3.
    """
    kept = np.log(rng.uniform(1.0, longest - 1.0, size))
    signs = [(gate == cell.keeping_gate) * 1.0 - (gate == cell.writing_gate) * 1.0 for gate in cell.gates]
    return np.concatenate([sign * kept if sign else np.zeros(size) for sign in signs])
