"""Where an error is, is read as it was written."""

import itertools

import pytest

from rnn_core.oracles import places
from rnn_core.oracles.places import Place


@pytest.mark.parametrize(
    "what", ["x", "initial state, hidden", "direct part of hidden", "dL/d(h before the first step)"]
)
@pytest.mark.parametrize("way", [None, 0, 1])
@pytest.mark.parametrize("layer", [None, 1, 12])
@pytest.mark.parametrize("step", [None, 1, 400])
def test_every_form_is_read_as_it_was_written(what: str, step: int | None, layer: int | None, way: int | None) -> None:
    """A layer or a direction was taken for a part of the step, or lost."""
    parts = [
        *([(places.in_way, way)] if way is not None else []),
        *([(places.in_layer, layer)] if layer else []),
        *([(lambda t: places.at_step("", t), step)] if step else []),
    ]
    expected = Place(what, step, layer, None if way is None else places.WAYS[way])
    for order in itertools.permutations(parts):
        assert places.read(what + "".join(write(number) for write, number in order)) == expected
