"""Shared by the tests of rnn_core."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rnn_core import compiled


@pytest.fixture
def readable() -> Iterator[None]:
    """The readable engine, for tests of its bits and of bugs planted in it."""
    with compiled.switched_off():
        yield
