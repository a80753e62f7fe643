"""Models on a frozen, public, pretrained net: `model.name = "pretrained:<name>"`.

What a patient shows is turned into features by a net that was trained elsewhere on public pictures
(`clients.models.backbones`), and only what comes after is trained on patients: a linear head, with
a hidden layer before it (`model.hidden`) if asked for, and, if asked for, the net's own last stages
(`model.tuned-stages`). Last stages know most of what the net was trained for; of pictures unlike
those, features of earlier ones can be better (`model.stages`). That under noise good features beat
more training is Tramèr and Boneh (2021), "Differentially private learning needs better features".

**Why the frozen part costs nothing.** It is in inference mode, always: `Backbone` is no part of the
module that is trained, so nothing switches it. Its BatchNorm then divides by statistics of the
published file, numbers that no patient of this training had a part in, and changes none of them:
x -> (x - mean) / sqrt(variance + eps) * weight + bias with constants, channel by channel. So the
whole is a public constant function of one record. Adding a patient adds that patient's feature rows
and moves nobody else's, and the clip bounds what the patient adds to a gradient, as with any other
input. Each picture is computed by itself, so that not even rounding depends on its neighbours. The
SHA-256 of the file is among the terms of a training.

A few of a net's channels are much louder than the others: each record's features are centred and
scaled by themselves (a layer norm without weights).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import nn

from clients.data.records import DatasetInfo, Floats
from clients.models.architecture import Architecture
from clients.models.backbones import empty_stages, fill, known, read_weights
from clients.models.errors import ModelError
from clients.models.folding import folded
from clients.models.independence import dependences
from clients.models.resizing import Resize
from clients.models.small import start_at_zero
from clients.models.squeezenet import Colours

#: Pixels per side that pictures are brought to where nothing else is said.
SIDE = 224
_VERSION = 1  # of the numbers in a file of features
_LARGEST = 6e4  # features are kept as float16


class Backbone:
    """A pretrained net, in inference mode for good.

    Args:
        name: row of the table of pretrained nets, or "package.module:function".
        weights: its tensors, by the names that they have here.

    Raises:
        ModelError: the tensors are of another net.
    """

    def __init__(self, name: str, weights: Mapping[str, torch.Tensor]) -> None:
        self.name = name
        made, row = empty_stages(name)
        if row is None:
            weights = _without_classifier(made, weights)
        fill(made, weights, f"pretrained:{name}")
        self.stages = made.eval().requires_grad_(False)
        self.colours = Colours(row.mean, row.std) if row else Colours()

    @property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """All that the net holds, by name."""
        return self.stages.state_dict()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the net's name and all that it holds, hex."""
        digest = hashlib.sha256(self.name.encode())
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


class Pool(nn.Module):
    """The mean over all places, of each channel; rows stay as they are."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return [n, channels]."""
        return maps.flatten(2).mean(dim=2) if maps.ndim > 2 else maps


class BackboneFeatures:
    """Fixed features of pictures of one shape: what the frozen stages make of them.

    Args:
        backbone: the net.
        frozen: how many of its first stages are computed.
        pooled: whether their maps are averaged over all places, and centred: they go into a head,
            not into a stage that is trained.
        shape: of a picture, (channels, height, width); 1 or 3 channels.
        side: pixels per side that pictures are brought to.

    Attributes:
        net: from pictures [n, *shape] in [0, 1] to features; frozen, in inference mode.
        shape: of one record's features: (channels,) where they are pooled, else of the maps.
    """

    title = "pretrained features"

    def __init__(
        self,
        backbone: Backbone,
        frozen: int,
        pooled: bool,
        shape: tuple[int, ...],
        side: int = SIDE,
    ) -> None:
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ModelError(
                f"model pretrained:{backbone.name} is for pictures, grey or in three colours; "
                f"found records of shape {shape}",
                code="wrong-kind",
            )
        what = f"{frozen}{'' if pooled else '-maps'}{'' if side == SIDE else f'-{side}'}"
        self.identity = f"pretrained-{_VERSION}-{backbone.fingerprint[:16]}-{what}"
        after = (Pool(), Centred()) if pooled else ()
        resize, stages = Resize((shape[1], shape[2]), side), list(backbone.stages)[:frozen]
        self.net = nn.Sequential(resize, backbone.colours, *stages, *after).eval()
        try:
            self.shape: tuple[int, ...] = self(np.zeros((1, *shape), dtype=np.float32)).shape[1:]
        except (RuntimeError, ValueError) as error:
            raise _runs_not(backbone, side, error) from error

    @torch.no_grad()
    def __call__(self, pictures: Floats) -> Floats:
        """Return float32 [n, *shape], each picture by itself; NaN for one that is not finite."""
        out: list[Floats] = []
        for picture in pictures:
            made = self.net(torch.from_numpy(picture[None].copy())).clamp(-_LARGEST, _LARGEST)
            out.append(made.numpy() if np.isfinite(picture).all() else made.numpy() * np.nan)
        if not out:
            return np.zeros((0, *self.shape), dtype=np.float32)
        return np.concatenate(out)


class Centred(nn.Module):
    """Each record's features, less their own mean, over their own deviation."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return [n, width]."""
        return nn.functional.layer_norm(rows, rows.shape[1:])


class Pretrained:
    """What is trained on a pretrained net.

    Args:
        backbone: the net.
        hidden: units of a hidden layer; 0 for none.
        stages: first stages of the net that are used; 0 for all.
        tuned: last ones of these that are trained too; 0 for none.
        side: pixels per side that pictures are brought to; 0 for `SIDE`. Small pictures say no more
            when they are enlarged further, and a net is quick on fewer pixels.

    Raises:
        ModelError: the net has fewer stages, or none would stay frozen; or it is the user's own,
            and mixes pictures.
    """

    def __init__(
        self, backbone: Backbone, *, hidden: int = 0, stages: int = 0, tuned: int = 0, side: int = 0
    ) -> None:
        there = len(backbone.stages)
        used = stages or there
        if used > there or tuned >= used:
            raise ModelError(
                f"model.stages = {stages} and model.tuned-stages = {tuned}: "
                f"pretrained:{backbone.name} has {there} stages, of which at least the first "
                "stays frozen",
                code="wrong-kind",
            )
        self.backbone, self.hidden, self.side = backbone, hidden, side or SIDE
        self.frozen, self.used = used - tuned, used
        if known(backbone.name) is None:
            _check_own(backbone, self.side)

    def architecture(self) -> Architecture:
        """Return it as a model among others."""
        return Architecture(
            title=f"a head on the features of {self.backbone.name}",
            builder=self.build,
            kinds=("image",),
            features=self.features,
        )

    def features(self, info: DatasetInfo) -> BackboneFeatures:
        """Return the fixed features of a data set's pictures."""
        pooled = self.frozen == self.used
        return _features(self.backbone, self.frozen, pooled, info.shape, self.side)

    def build(self, info: DatasetInfo) -> nn.Module:
        """Return the layers that are trained, from features to logits.

        Tuned stages begin as they were published, their BatchNorms folded into convolutions; the
        head begins at zero.
        """
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        named = list(self.backbone.stages.named_children())
        maps = torch.rand(2, *self.features(info).shape)
        for name, stage in named[self.frozen : self.used]:
            layers[f"tuned-{name}"] = folded(stage, maps)
            maps = stage(maps)
        if layers:
            layers["pool"], layers["centred"] = Pool(), Centred()
            maps = Pool()(maps)
        width = maps.shape[1]
        if self.hidden:
            layers["hidden"], layers["act"] = nn.Linear(width, self.hidden), nn.Tanh()
            width = self.hidden
        layers["head"] = start_at_zero(nn.Linear(width, info.outputs))
        return nn.Sequential(layers)


def _without_classifier(
    stages: nn.Sequential, weights: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the tensors of a user's own file without those of a layer that was taken away."""
    gone = {name for name, layer in stages.named_modules() if isinstance(layer, nn.Identity)}
    inner = "" if len(stages) != 1 else "0."
    known = stages.state_dict()
    found = {}
    for name, tensor in weights.items():
        own = name if name in known else f"{inner}{name}"
        if own.rpartition(".")[0] not in gone:
            found[own] = tensor
    return found


@lru_cache(maxsize=4)
def _check_own(backbone: Backbone, side: int) -> None:
    """Run somebody's own net on made-up pictures: it must treat each alone."""
    whole = nn.Sequential(backbone.colours, backbone.stages, Pool())
    try:
        found = dependences(whole.eval(), (3, side, side), (0.0, 1.0))
    except (RuntimeError, ValueError) as error:
        raise _runs_not(backbone, side, error) from error
    if found:
        raise ModelError("; ".join(found), code="not-private-ready")


def _runs_not(backbone: Backbone, side: int, error: Exception) -> ModelError:
    return ModelError(
        f"pretrained:{backbone.name} does not run on pictures of shape (3, {side}, {side}) "
        f"({error})",
        code="wrong-kind",
    )


@lru_cache(maxsize=8)
def _features(
    backbone: Backbone, frozen: int, pooled: bool, shape: tuple[int, ...], side: int
) -> BackboneFeatures:
    return BackboneFeatures(backbone, frozen, pooled, shape, side)


@lru_cache(maxsize=4)
def load_backbone(name: str, path: str, digest: str) -> Backbone:
    """Return a pretrained net, read from its file once for each process.

    Args:
        name: row of the table of pretrained nets, or "package.module:function".
        path: of the file; "" for the one that its package carries.
        digest: SHA-256 of the file, hex; a later file of the same path has another.

    Raises:
        ModelError: see `clients.models.backbones`.
    """
    return Backbone(name, read_weights(name, path, digest))
