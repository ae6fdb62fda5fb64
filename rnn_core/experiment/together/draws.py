"""Networks and sequences of many runs on the device, each drawn once: runs of one seed share them, and ρ only scales a matrix.

The numbers are those of ``prepare``, bit for bit. Eigenvalues are found once for every matrix that is drawn, and scale with it. A run
alone finds those of its scaled matrix, which are the same to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from rnn_core import readout
from rnn_core.cells import Cell
from rnn_core.experiment.settings import Experiment
from rnn_core.initializers import INITIALIZERS
from rnn_core.streams import stream
from rnn_core.tasks import Task

Drawn = TypeVar("Drawn")
REMEMBERED = 8  # seeds whose draws are kept; runs come sorted by seed


@dataclass(frozen=True)
class Network:
    """Recurrent matrices before they are scaled, one a gate, and input weights of unit variance.

    Attributes:
        blocks: (G, H, H).
        inputs: (G·H, D).
        eigenvalues: of every block, complex (G, H).
        radius, sigma_w: of every block, (G,).
    """

    blocks: np.ndarray
    inputs: np.ndarray
    eigenvalues: np.ndarray
    radius: np.ndarray
    sigma_w: np.ndarray


@dataclass(frozen=True)
class Loaded:
    """The arrays of some runs on the device.

    Attributes:
        params: by name, with a leading run axis; those of the readout too.
        x: inputs of every batch that was drawn, (batches, T, B, D).
        target: the same of targets, (batches, …).
        gram: Σ x_t x_t^T over time and samples of every batch, float64 (batches, D, D).
        which: for every run the index of its batch, (runs,).
        networks: of every run.
        scales: by what every block of a run was multiplied, float64 (runs, G).
    """

    params: dict[str, Tensor]
    x: Tensor
    target: Tensor
    gram: Tensor
    which: Tensor
    networks: list[Network]
    scales: np.ndarray


class Draws:
    """Draws for runs of one shape, and remembers the last ones.

    Args:
        most: networks, and batches, that are remembered.
    """

    def __init__(self, cell: Cell, dtype: str, device: str, most: int = REMEMBERED) -> None:
        self.cell, self.most = cell, most
        self.dtype, self.device = getattr(torch, dtype), torch.device(device)
        self._networks: dict[Hashable, Network] = {}
        self._readouts: dict[Hashable, dict[str, np.ndarray]] = {}
        self._batches: dict[Hashable, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def load(self, experiments: Sequence[Experiment], tasks: Sequence[Task]) -> Loaded:
        """The networks and first batches of some runs."""
        D, C = tasks[0].input_size, tasks[0].output_size
        networks = [self._network(e, D) for e in experiments]
        readouts = [self._readout(e, C) for e in experiments]
        batches = {e.seed: self._batch(e, task) for e, task in zip(experiments, tasks, strict=True)}
        order = {seed: index for index, seed in enumerate(batches)}
        scales = np.array([_scales(e, net) for e, net in zip(experiments, networks, strict=True)])
        x, target, gram = (np.stack(parts) for parts in zip(*batches.values(), strict=True))
        params = self._weights(experiments, networks, scales, D)
        for name in ("weight_ho", "bias_ho"):
            params[name] = self._placed(np.stack([each[name] for each in readouts]))
        labels = target.dtype.kind == "i"
        return Loaded(
            params,
            self._placed(x),
            torch.as_tensor(target, device=self.device) if labels else self._placed(target),
            torch.as_tensor(gram, device=self.device),
            torch.tensor([order[e.seed] for e in experiments], device=self.device),
            networks,
            scales,
        )

    def _weights(
        self, experiments: Sequence[Experiment], networks: list[Network], scales: np.ndarray, D: int
    ) -> dict[str, Tensor]:
        """The cell's parameters: every matrix travels once, and is scaled on the device as ``recurrent_matrix`` scales it."""
        order = {id(network): index for index, network in enumerate({id(n): n for n in networks}.values())}
        different = list({id(n): n for n in networks}.values())
        which = torch.tensor([order[id(network)] for network in networks], device=self.device)
        blocks, inputs = (
            torch.as_tensor(np.stack([getattr(n, name) for n in different]), device=self.device)
            for name in ("blocks", "inputs")
        )
        input_scales = np.array([e.input_scale / np.sqrt(D) for e in experiments])
        scaled = blocks[which] * torch.as_tensor(scales, device=self.device)[:, :, None, None]
        W_ih = inputs[which] * torch.as_tensor(input_scales, device=self.device)[:, None, None]
        params = {"weight_ih": W_ih.to(self.dtype), "weight_hh": scaled.flatten(1, 2).to(self.dtype)}
        zeros = torch.zeros(W_ih.shape[:2], dtype=self.dtype, device=self.device)
        return {**params, "bias_ih": zeros, "bias_hh": zeros}

    def _placed(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=self.dtype, device=self.device)

    def _network(self, e: Experiment, D: int) -> Network:
        return self._remembered(self._networks, (e.seed, e.initializer), lambda: _draw(self.cell, e, D))

    def _readout(self, e: Experiment, C: int) -> dict[str, np.ndarray]:
        return self._remembered(
            self._readouts, e.seed, lambda: readout.init_readout(stream(e.seed, "readout"), e.hidden_size, C)
        )

    def _batch(self, e: Experiment, task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(x, target, Σ x x^T); the sum is taken here, so that its bits do not depend on other batches."""

        def draw() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            x, target = task.batch(0)
            rows = x.astype(e.dtype).astype(np.float64).reshape(-1, x.shape[-1])
            return x, target, rows.T @ rows

        return self._remembered(self._batches, e.seed, draw)

    def _remembered(self, known: dict[Hashable, Drawn], key: Hashable, draw: Callable[[], Drawn]) -> Drawn:
        if key not in known:
            while len(known) >= self.most:
                known.pop(next(iter(known)))
            known[key] = draw()
        return known[key]


def _scales(e: Experiment, network: Network) -> np.ndarray:
    """By what every block is multiplied, (G,), as ``recurrent_matrix`` does; 1 where it stays as drawn."""
    if e.spectral_radius is None:
        return np.full(len(network.radius), e.weight_scale or 1.0)
    return np.asarray(e.spectral_radius / network.radius)


def _draw(cell: Cell, e: Experiment, D: int) -> Network:
    """What ``Cell.init_params`` draws, from the same stream in the same order."""
    rng, H = stream(e.seed, "weights"), e.hidden_size
    blocks = np.stack([INITIALIZERS[e.initializer](rng, H) for _ in cell.gates])
    inputs = rng.standard_normal((len(cell.gates) * H, D))
    eigenvalues = np.linalg.eigvals(blocks)
    return Network(
        blocks,
        inputs,
        eigenvalues,
        np.abs(eigenvalues).max(axis=1),
        np.sqrt((blocks**2).sum(axis=(1, 2)) / H),
    )
