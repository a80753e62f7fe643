"""Opacus' hooks and layers without the rest of it, which a process of hospitals has no use for.

A part of a package runs the package first, and Opacus' own module imports its engine with
optimizers for sharded models: a second of a start, a thousand modules and 50 MiB. Here that module
runs when something is asked of it (`opacus.PrivacyEngine`), not when a part is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any

import torch.distributed
from torch import nn
from torch.nn.modules.conv import _ConvNd


def defer(package: str) -> None:
    """Have a package's own module run with the first question to it, unless it is there already.

    Args:
        package: its name; a package that is not installed is left to whoever imports it.
    """
    spec = importlib.util.find_spec(package) if package not in sys.modules else None
    if spec is None or spec.loader is None:
        return
    loader, lock = spec.loader, threading.RLock()
    module = importlib.util.module_from_spec(spec)

    def ask(name: str) -> Any:
        if name.startswith("__") and name not in ("__all__", "__version__"):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with lock:
            waiting = module.__dict__.pop("__getattr__", None)
            try:
                if waiting is not None:
                    loader.exec_module(module)
            except BaseException:
                module.__dict__["__getattr__"] = waiting
                raise
        return getattr(module, name)

    module.__dict__["__getattr__"] = ask
    sys.modules[package] = module


def find_parts_when_asked(package: ModuleType, *parts: str) -> None:
    """Have a package import these parts of itself with the first question to them.

    Opacus asks of each convolution whether it is sharded, by a part of torch that its own module
    would have imported; whoever uses Opacus beside this app need not know that it was deferred.
    """
    asked_before = vars(package).get("__getattr__")

    def ask(name: str) -> Any:
        if name in parts:
            return importlib.import_module(f"{package.__name__}.{name}")
        if asked_before is not None:
            return asked_before(name)
        raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")

    vars(package)["__getattr__"] = ask


defer("opacus")
find_parts_when_asked(torch.distributed, "fsdp")

from opacus.grad_sample import GradSampleModule  # noqa: E402  (its package is deferred before)
from opacus.layers import DPGRU  # noqa: E402

__all__ = ["DPGRU", "GradSampleModule", "defer", "hooked"]


def hooked(module: nn.Module) -> nn.Module:
    """Return a model with Opacus' hooks, for sums of losses.

    What Opacus asks of convolutions is imported here rather than with the first gradient: half a
    second that a model without convolutions need not wait for.
    """
    if any(isinstance(layer, _ConvNd) for layer in module.modules()):
        importlib.import_module("torch.distributed.fsdp")
    made: nn.Module = GradSampleModule(module, loss_reduction="sum")
    return made
