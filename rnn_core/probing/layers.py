"""torch's RNN, GRU and LSTM of several layers, one step at a time: the state of all layers is the state."""

from __future__ import annotations

from torch import Tensor, nn


class LayersStep(nn.Module):  # type: ignore[misc]
    """(x_t, state) -> state of a ``torch.nn.RNN``, ``GRU`` or ``LSTM``.

    The parts are ``output`` (B, H), the top layer's, which a loss acts on; ``hidden`` (B, layers, H); and an LSTM's ``cell``.

    Raises:
        ValueError: it runs in both directions, so that no step has a state.
    """

    def __init__(self, layers: nn.RNNBase) -> None:
        super().__init__()
        if layers.bidirectional:
            last = "model(x)[1][0]" if isinstance(layers, nn.LSTM) else "model(x)[1]"
            raise ValueError(
                "a bidirectional module has no step: each direction has a time of its own. What both end with: "
                f"rc.probe(lambda x: {last}[-2:].transpose(0, 1).flatten(1), x, whole_sequence=True). In the last "
                "output, which rc.probe(model, x, whole_sequence=True) takes, the reverse direction has seen one step"
            )
        self.layers = layers

    def initial_state(self, batch_size: int) -> dict[str, Tensor]:
        """Zeros."""
        weight, layers = next(self.layers.parameters()), self.layers.num_layers
        H = self.layers.proj_size or self.layers.hidden_size
        state = {"output": weight.new_zeros(batch_size, H), "hidden": weight.new_zeros(batch_size, layers, H)}
        if isinstance(self.layers, nn.LSTM):
            state["cell"] = weight.new_zeros(batch_size, layers, self.layers.hidden_size)
        return state

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        time = 1 if self.layers.batch_first else 0
        hidden = state["hidden"].transpose(0, 1).contiguous()
        given = (hidden, state["cell"].transpose(0, 1).contiguous()) if "cell" in state else hidden
        output, after = self.layers(x.unsqueeze(time), given)
        parts = {"output": output.squeeze(time)}
        names = ("hidden", "cell") if "cell" in state else ("hidden",)
        values = after if isinstance(after, tuple) else (after,)
        return parts | {name: part.transpose(0, 1) for name, part in zip(names, values, strict=True)}
