"""What these tests let the engine know, it forgets again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rnn_core.experiment import OWN_CELLS


@pytest.fixture(autouse=True)
def forget_own_cells() -> Iterator[None]:
    before = dict(OWN_CELLS)
    yield
    OWN_CELLS.clear()
    OWN_CELLS.update(before)
