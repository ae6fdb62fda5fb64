"""What every test shares: one BLAS thread, and what happens to CUDA tests where there is no CUDA."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

# Before NumPy or torch is imported: one thread gives the same bits on any machine, and two test workers do not fight.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

# A shell that starts the tests in the background lets them, and every Snakemake that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest  # noqa: E402

if TYPE_CHECKING:
    from tests.faults.disturbed import Disturbed


@pytest.fixture(autouse=True)
def _cuda_where_marked(request: pytest.FixtureRequest) -> None:
    """Skip a test marked ``gpu`` where torch finds no CUDA device; fail it if the environment says REQUIRE_GPU=1."""
    if request.node.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        if os.environ.get("REQUIRE_GPU") == "1":
            pytest.fail("REQUIRE_GPU=1, but torch finds no CUDA device")
        pytest.skip("torch finds no CUDA device (set REQUIRE_GPU=1 to make this a failure)")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    """The study of four blocks after one call that nobody disturbed, and what that call said. Tests must not change it."""
    from tests.faults import disturbed
    from tests.support.shared import made_once

    folder = made_once(tmp_path_factory, "undisturbed", disturbed.finish)
    return disturbed.Disturbed(folder / "project")


@pytest.fixture
def readable() -> Iterator[None]:
    """The readable engine, for tests of its bits and of bugs planted in it."""
    from rnn_core import compiled

    with compiled.switched_off():
        yield
