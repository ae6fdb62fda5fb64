"""The peers, one file each: ``PEER``, a ``Contender``. A new file is a new peer; its name goes into ``NAMES``."""

from __future__ import annotations

from importlib import import_module

from benchmarks import narrow
from benchmarks.work import Contender

NAMES = ("torch_eager", "torch_nn", "torch_func", "jax_scan", "numpy_loop")


def every() -> tuple[list[Contender], dict[str, str]]:
    """(the peers that can be imported, why the others cannot, by name)."""
    installed, missing = [], {}
    for name in NAMES:
        try:
            installed.append(import_module(f"benchmarks.peers.{name}").PEER)
        except ModuleNotFoundError as error:
            missing[name] = f"{error.name} is not installed"
    return installed, missing


def load(device: str = "cpu") -> tuple[list[Contender], dict[str, str]]:
    """The same, of one device; without those that cannot be kept to AVX2, where everybody is."""
    installed, missing = every()
    if narrow():
        missing |= {peer.name: "no setting keeps its products to AVX2" for peer in installed if not peer.narrows}
    return [peer for peer in installed if device in peer.devices and peer.name not in missing], missing
