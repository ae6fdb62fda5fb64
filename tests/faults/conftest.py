"""The study that the fault tests disturb, finished once undisturbed."""

from __future__ import annotations

import os

import pytest

from tests.faults.disturbed import Disturbed, fresh, has_mount


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    """The study after one call that nobody disturbed. Tests must not change it."""
    project = fresh(tmp_path_factory.mktemp("undisturbed") / "project")
    project.run()
    return project


@pytest.fixture
def mount() -> None:
    """Skip where nothing can be mounted; fail there if the environment says REQUIRE_MOUNT=1."""
    if not has_mount():
        if os.environ.get("REQUIRE_MOUNT") == "1":
            pytest.fail("REQUIRE_MOUNT=1, but this process cannot mount a tmpfs")
        pytest.skip("this process cannot mount a tmpfs (set REQUIRE_MOUNT=1 to make this a failure)")
