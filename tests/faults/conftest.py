"""What some fault tests need of the machine."""

from __future__ import annotations

import os

import pytest

from tests.faults.disturbed import has_mount


@pytest.fixture
def mount() -> None:
    """Skip where nothing can be mounted; fail there if the environment says REQUIRE_MOUNT=1."""
    if not has_mount():
        if os.environ.get("REQUIRE_MOUNT") == "1":
            pytest.fail("REQUIRE_MOUNT=1, but this process cannot mount a tmpfs")
        pytest.skip("this process cannot mount a tmpfs (set REQUIRE_MOUNT=1 to make this a failure)")
