"""The peers, one file each: ``PEER``, a ``Contender``. A new file is a new peer; its name goes into ``NAMES``."""

from __future__ import annotations

from importlib import import_module

from benchmarks.work import Contender

NAMES = ("torch_eager", "torch_nn", "torch_func", "jax_scan", "numpy_loop")


def load(device: str = "cpu") -> tuple[list[Contender], dict[str, str]]:
    """(the peers of this device that can be imported, why the others cannot, by name)."""
    installed, missing = [], {}
    for name in NAMES:
        try:
            peer: Contender = import_module(f"benchmarks.peers.{name}").PEER
        except ModuleNotFoundError as error:
            missing[name] = f"{error.name} is not installed"
            continue
        if device in peer.devices:
            installed.append(peer)
    return installed, missing
