"""From a gradient back to the record: by arithmetic at a linear first layer, else by descent.

A linear layer's gradient is ``g x^T`` for its weights and ``g`` for its biases, so their quotient
is the record, whatever it was scaled by (Geiping et al. 2020, proposition 3.1). With noise a matrix
of rank one is to be found in noise: its largest singular vectors are the likeliest, and what is
known of records beforehand weighs against what was seen (Wiener's filter).

Other nets are inverted by descent on the picture until its gradient points where the seen one does,
its cosine being what is compared, and neighbouring pixels drawn together (Geiping et al. 2020,
equation 4), by L-BFGS (Zhu, Liu and Han 2019) from the mean of public records. The label is read
from the head's biases first (Zhao, Mopuri and Bilen 2020).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from clients.models.small import Centre

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

#: Descent: its steps at the most, and the weight of neighbouring values beside the cosine.
STEPS, NEIGHBOURS = 200, 1e-3
#: Share of the mean variance that every direction of a prior has at least.
_LEAST_VARIANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Prior:
    """What is known of records before anything is seen: mean and covariance of public ones.

    Attributes:
        mean: float64 ``[values]``.
        axes: its main axes, float64 ``[values, values]``, a column each.
        variances: along them, float64 ``[values]``.
    """

    mean: Vector
    axes: Vector
    variances: Vector

    @classmethod
    def of(cls, records: NDArray[np.floating]) -> Prior:
        """Learn it from public records ``[n, *shape]``."""
        rows = np.asarray(records, dtype=np.float64).reshape(len(records), -1)
        mean = rows.mean(axis=0)
        _, values, axes = np.linalg.svd(rows - mean, full_matrices=False)
        variances = values**2 / max(len(rows) - 1, 1)
        return cls(mean=mean, axes=axes.T, variances=variances)

    def weighed(self, seen: Vector, stddev: float) -> Vector:
        """Return the likeliest record where `seen` is it with noise of `stddev` on each value."""
        if stddev == 0.0:
            return seen
        moved = seen - self.mean
        inside = self.axes.T @ moved
        least = _LEAST_VARIANCE * float(self.variances.mean())
        outside = moved - self.axes @ inside
        drawn = inside * self.variances / (self.variances + stddev**2)
        return self.mean + self.axes @ drawn + outside * least / (least + stddev**2)


@dataclass(frozen=True, slots=True)
class LinearStart:
    """The first layer of a model that begins with a linear one.

    Attributes:
        weights: where its weights lie in an update.
        biases: where its biases do.
        middle: of the inputs that it sees as 0.
        radius: of the inputs that it sees as 1.
    """

    weights: slice
    biases: slice
    middle: float
    radius: float

    def centred(self, records: Vector) -> Vector:
        """Return records as the layer sees them."""
        return (records - self.middle) / self.radius

    def inverted(self, update: Vector, noise_stddev: float, prior: Prior) -> Vector:
        """Return the record, float64 ``[values]``, that an update ``[d]`` is likeliest to be of.

        Args:
            update: gradient units.
            noise_stddev: of the noise on each of its values, which is public.
            prior: of records.
        """
        biases = update[self.biases]
        rows = np.column_stack([update[self.weights].reshape(len(biases), -1), biases])
        left, _, _ = np.linalg.svd(rows, full_matrices=False)
        seen = left[:, 0] @ rows
        seen = seen if seen[-1] >= 0 else -seen
        scale = float(seen[-1])
        if noise_stddev > 0.0:
            scale = self._weighed_scale(seen, noise_stddev, prior)
        if scale <= 0.0 or not np.isfinite(scale):
            return prior.mean
        found = seen[:-1] / scale * self.radius + self.middle
        return prior.weighed(found, noise_stddev / scale * self.radius)

    def _weighed_scale(self, seen: Vector, stddev: float, prior: Prior) -> float:
        """How strongly the record was seen: told by the bias, and by what records are like."""
        typical = np.append(self.centred(prior.mean), 1.0)
        by_prior = float(seen @ typical / (typical @ typical))
        along = prior.axes.T @ typical[:-1] / (typical @ typical)
        spread = float(np.sqrt(np.sum(along**2 * prior.variances))) / self.radius
        doubt = max(abs(by_prior) * spread, 1e-12)
        return float((seen[-1] / stddev**2 + by_prior / doubt**2) / (1 / stddev**2 + 1 / doubt**2))


def linear_start(module: nn.Module) -> LinearStart | None:
    """Return a model's first layer where it is linear, with biases, on the record itself."""
    middle, radius = 0.0, 1.0
    layers = [one for one in module.modules() if not list(one.children())]
    for layer in layers:
        if isinstance(layer, Centre):
            middle, radius = layer.middle, layer.radius
        elif isinstance(layer, nn.Linear) and layer.bias is not None:
            weights, biases = (_place(module, one) for one in (layer.weight, layer.bias))
            return LinearStart(weights, biases, middle, radius) if weights and biases else None
        elif not isinstance(layer, nn.Identity | nn.Flatten):
            return None
    return None


def _place(module: nn.Module, wanted: torch.Tensor) -> slice | None:
    """Return where a parameter lies in an update; None where it is not trained."""
    offset = 0
    for parameter in module.parameters():
        if not parameter.requires_grad:
            continue
        if parameter is wanted:
            return slice(offset, offset + parameter.numel())
        offset += parameter.numel()
    return None


def label_of(module: nn.Module, update: Vector) -> int:
    """Return the class that the head's biases tell: the only one that they are pulled towards."""
    heads = [one for one in module.modules() if isinstance(one, nn.Linear) and one.bias is not None]
    place = _place(module, heads[-1].bias) if heads else None
    return int(np.argmin(update[place])) if place else 0


def descended(
    module: nn.Module, update: Vector, start: Vector, shape: tuple[int, ...], width: float
) -> Vector:
    """Return the record, float64 ``[values]``, whose gradient points where a seen one does.

    Args:
        module: the model that the gradient was taken at.
        update: float64 ``[d]``; its length does not matter.
        start: where the descent begins: what a guess would be.
        shape: of a record.
        width: of the range of its values.
    """
    parameters = [one for one in module.parameters() if one.requires_grad]
    wanted = list(_pieces(update, parameters))
    length = torch.stack([one.square().sum() for one in wanted]).sum().sqrt()
    label = torch.tensor([label_of(module, update)])
    record = torch.tensor(start.reshape((1, *shape)), dtype=torch.float32, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [record], max_iter=STEPS, history_size=50, line_search_fn="strong_wolfe",
        tolerance_grad=1e-12, tolerance_change=1e-14,
    )  # fmt: skip

    def cost() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(module(record), label)
        found = torch.autograd.grad(loss, parameters, create_graph=True)
        apart = 1.0 - _cosine(found, wanted, length) + NEIGHBOURS / width * _roughness(record)
        apart.backward()  # type: ignore[no-untyped-call]
        return apart

    optimizer.step(cost)  # type: ignore[no-untyped-call]
    for one in parameters:
        one.grad = None
    return np.asarray(record.detach().double().numpy()).reshape(-1)


def _pieces(update: Vector, parameters: Sequence[nn.Parameter]) -> Iterator[torch.Tensor]:
    """Yield an update's values, float32, in the shapes of the parameters."""
    offset = 0
    for one in parameters:
        piece = torch.from_numpy(update[offset : offset + one.numel()].astype(np.float32))
        yield piece.reshape(one.shape)
        offset += one.numel()


def _cosine(
    found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor], length: torch.Tensor
) -> torch.Tensor:
    along = torch.stack([(a * b).sum() for a, b in zip(found, wanted, strict=True)]).sum()
    own = torch.stack([one.square().sum() for one in found]).sum().sqrt()
    return along / (own * length).clamp_min(1e-30)


def _roughness(record: torch.Tensor) -> torch.Tensor:
    """Mean distance of neighbouring values along each axis of space (total variation)."""
    found = torch.zeros(())
    for axis in range(2, record.dim()):
        found = found + record.diff(dim=axis).abs().mean()
    return found
