"""Which array library, dtype and device: NumPy on the CPU, torch tensors on CPU or CUDA, one code for both.

What computes takes the *namespace* ``xp`` of its arguments, by the array API standard through ``array-api-compat``. It never names
a library. torch is imported only when a torch tensor or CUDA is asked for.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import array_namespace, is_torch_array

from rnn_core.scalars import require_unmasked

Array: TypeAlias = Any  # a NumPy array or a torch tensor
Params: TypeAlias = dict[str, Array]
State: TypeAlias = dict[str, Array]

DTYPES = ("float64", "float32")
DEVICES = ("cpu", "cuda", "auto")
_NAMES: dict[Any, str] = {np.dtype(name): name for name in DTYPES}  # NumPy takes long to spell a dtype's name


def namespace(array: Array) -> ModuleType:
    """The array-API namespace of ``array``."""
    # The test on the type comes first because array_namespace costs as much as a small matrix product.
    return np if type(array) is np.ndarray else array_namespace(array)


def dtype_name(x: Array) -> str:
    """``float64`` or ``float32``, for a NumPy array or a torch tensor."""
    return _NAMES.get(x.dtype) or str(x.dtype).removeprefix("torch.")


def erfcx(x: Array) -> Array:
    """exp(x²) erfc(x), entry by entry, accurate at any x >= 0; the array API standard has no error function."""
    if is_torch_array(x):
        import torch

        return torch.special.erfcx(x)
    from scipy import special  # a sixth of a second, for gelu's sake alone

    return special.erfcx(x)


def to_numpy(array: Array) -> np.ndarray:
    """``array`` as a NumPy array, copied from the GPU where it has to be."""
    return array.detach().cpu().numpy() if is_torch_array(array) else np.asarray(array)


def check_alike(name: str, array: Array, reference_name: str, reference: Array) -> None:
    """ValueError unless ``array`` has the library, dtype and device of ``reference``, and a dtype that the engine computes in."""
    if type(array) is type(reference) is np.ndarray and array.dtype == reference.dtype and array.dtype in _NAMES:
        return
    for which, given in ((name, array), (reference_name, reference)):
        if not hasattr(given, "dtype"):
            raise ValueError(
                f"{which}: {type(given).__name__} is not allowed; it must be a NumPy array or a torch tensor"
            )
        require_unmasked(which, given)
        if dtype_name(given) not in DTYPES:
            raise ValueError(f"{which}: dtype {given.dtype} is not allowed; it must be {' or '.join(DTYPES)}")
    library, expected = (("torch" if is_torch_array(a) else "NumPy") for a in (array, reference))
    if library != expected:
        raise ValueError(f"{name}: {library} does not fit; {reference_name} is {expected}")
    if array.dtype != reference.dtype or array.device != reference.device:
        given, wanted = (f"{a.dtype} on {a.device}" for a in (array, reference))
        raise ValueError(f"{name}: {given} does not fit; {reference_name} is {wanted}")


def constant(array: Array) -> Array:
    """``array`` without the history that torch keeps of a parameter: the engine has no use for autograd."""
    return array if type(array) is np.ndarray or not is_torch_array(array) else array.detach()


def like(values: Any, reference: Array) -> Array:
    """``values`` in the library, dtype and device of ``reference``."""
    if is_torch_array(reference):
        import torch

        return torch.as_tensor(values, dtype=reference.dtype, device=reference.device)
    return np.asarray(values, dtype=reference.dtype)


def place(values: np.ndarray, dtype: str, device: str) -> Array:
    """Floating-point ``values`` on ``device``: a NumPy array for ``cpu``, a torch tensor for ``cuda``."""
    if device == "cpu":
        return np.asarray(values, dtype=dtype)
    return torch_for(f"device: {device!r}").as_tensor(np.asarray(values, dtype=dtype), device=device)


def device_name(device: str) -> str:
    """``cpu``, or which GPU ``cuda`` is."""
    if device == "cpu":
        return "cpu"
    import torch

    return str(torch.cuda.get_device_name())


def torch_for(what: str) -> Any:
    """torch, for what cannot do without it.

    Raises:
        ModuleNotFoundError: it is not installed. The message says what needs it, and how it is installed.
    """
    try:
        import torch
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            f"{what} needs torch, which is not installed: pip install torch, or pip install '.[torch]' in the project's folder",
            name="torch",
        ) from missing
    return torch


def resolve_device(name: str) -> str:
    """``cpu`` or ``cuda`` for a configured ``cpu | cuda | auto``.

    Raises:
        RuntimeError: ``cuda`` is asked for and torch finds no CUDA device.
    """
    if name == "cpu":
        return "cpu"
    torch = torch_for(f"device: {name!r}")

    if torch.cuda.is_available():
        return "cuda"
    if name == "auto":
        return "cpu"
    raise RuntimeError("device: cuda was asked for, but torch finds no CUDA device; use device: cpu or auto")
