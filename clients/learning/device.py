"""Where gradients are computed: a processor, or one of the machine's CUDA devices.

What every hospital holds alike, the model and what its optimizer remembers, stays on processors and
steps there: devices round a step each in their own way, and all hospitals must come to the same
bits. A device has a twin of the model, which is brought up to date before each pass.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.func import functional_call

from clients.learning.device_check import DeviceError
from clients.models.weights import check_parameters

#: Names that a setting or a ``site.toml`` may give.
NAMES = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
CPU = torch.device("cpu")

Module = TypeVar("Module", bound=nn.Module)


class NoSuchDevice(DeviceError):
    """A device that was asked for by name is not there."""


def find_device(name: str) -> torch.device:
    """Return a device that works.

    Args:
        name: ``auto`` (CUDA if it is there), ``cpu``, ``cuda``, or ``cuda:N``.

    Raises:
        NoSuchDevice: the one that was named is not there, or does not compute.
    """
    if not NAMES.fullmatch(name):
        raise NoSuchDevice(f"device {name!r} is none of auto, cpu, cuda and cuda:N")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return CPU
    if not torch.cuda.is_available():
        raise NoSuchDevice(
            f"device {name!r}: {_why_none()}; 'auto' computes on processors where there is none"
        )
    found, count = torch.device("cuda" if name == "auto" else name), torch.cuda.device_count()
    if (found.index or 0) >= count:
        raise NoSuchDevice(
            f"device {name!r}: this process sees {count} CUDA device"
            f"{'' if count == 1 else 's'}, numbered from 0"
        )
    found = torch.device("cuda", found.index or 0)
    try:
        torch.ones(1, device=found).sum().item()
    except RuntimeError as error:
        said = str(error).strip().splitlines()[0]
        raise NoSuchDevice(f"device {name!r} does not compute: {said}") from error
    return found


def _why_none() -> str:
    if torch.version.cuda is None:
        return "torch is installed without CUDA here"
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "CUDA_VISIBLE_DEVICES hides every device from this process"
    return "torch finds no CUDA device here"


def describe(device: torch.device) -> str:
    """Return a device's name for people: ``cpu``, or ``cuda:0 (NVIDIA H100)``."""
    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"


def to_processor(values: torch.Tensor) -> torch.Tensor:
    """Return a tensor on a processor; a device writes it into memory that stays where it is.

    Into other memory a copy goes by way of such a place, page by page: ten times as long.
    """
    if values.device.type == "cpu":
        return values
    here = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return here.copy_(values)


class Twin(Generic[Module]):
    """A module where its gradients are computed: itself, or a copy of it on another device.

    Args:
        module: on a processor; its parameters are what :meth:`refresh` copies.
        device: where the twin is.

    Attributes:
        module: what computes.
    """

    def __init__(self, module: Module, device: torch.device = CPU) -> None:
        self.device = device
        self._own = module
        self.module = module if device.type == "cpu" else copy.deepcopy(module).to(device)

    def refresh(self) -> None:
        """Bring a copy up to date; nothing where the twin is the module itself."""
        if self.module is self._own:
            return
        with torch.no_grad():
            for mine, theirs in zip(self.module.parameters(), self._own.parameters(), strict=True):
                mine.copy_(theirs, non_blocking=True)
            for kept, given in zip(self.module.buffers(), self._own.buffers(), strict=True):
                kept.copy_(given, non_blocking=True)


class Forward:
    """Logits of a model, of its own or of other weights, on a device.

    Args:
        module: on a processor; it is left as it is.
        device: where it is computed.
    """

    def __init__(self, module: nn.Module, device: torch.device = CPU) -> None:
        self._twin = Twin(module, device)

    @torch.no_grad()
    def logits(
        self,
        inputs: torch.Tensor,
        tensors: Mapping[str, torch.Tensor] | None = None,
        *,
        at_once: int = 0,
    ) -> NDArray[np.float32]:
        """Return logits ``[n, classes]``.

        Args:
            inputs: ``[n, *shape]``.
            tensors: parameters by name in place of the module's own; all of them.
            at_once: records computed at once; 0: all.

        Raises:
            ModelError: the tensors are not this module's parameters.
        """
        if tensors is not None:
            check_parameters(self._twin.module, tensors)
        device, module = self._twin.device, self._twin.module
        self._twin.refresh()
        weights = {name: one.to(device) for name, one in (tensors or {}).items()}
        chunks = torch.split(inputs, at_once) if at_once and len(inputs) else (inputs,)
        made = [functional_call(module, weights, (chunk.to(device),)).cpu() for chunk in chunks]
        return np.asarray(torch.cat(made).numpy())
