"""A model as one module from records to probabilities: what is exported to other programs.

Fixed features, members, their vote, temperature and softmax are all in it, so that whoever runs it
needs none of this app.
"""

from __future__ import annotations

import torch
from torch import nn

from clients.models.features import Features
from clients.models.pretrained import BackboneFeatures
from clients.models.scattering import Scattering, fold
from clients.prediction.predictor import Predictor

_LEAST = 1e-15


class WholeModule(nn.Module):
    """Records float32 [n, *shape] to calibrated probabilities float32 [n, classes].

    Args:
        predictor: the model.
        real: write Fourier transforms as products of real matrices, for programs that have no
            complex numbers.

    Raises:
        ValueError: the model's features cannot be written so.
    """

    def __init__(self, predictor: Predictor, *, real: bool = False) -> None:
        super().__init__()
        artefact = predictor.artefact
        made = predictor.architecture.feature_map(artefact.info)
        self._features: Features | None = None
        self._real: RealScattering | None = None
        self._net: nn.Module | None = None
        if isinstance(made, Features):
            self._features = made
            self._real = RealScattering(made.transform) if real else None
        elif isinstance(made, BackboneFeatures):
            self._net = made.net
        elif made is not None:
            raise ValueError(f"features of {artefact.architecture} are not exported")
        self.members = nn.ModuleList(predictor.modules.values())
        self._majority = artefact.vote == "majority"
        self._temperature = artefact.doubt.temperature

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        """Return probabilities [n, classes]."""
        if self._net is not None:
            records = self._net(records)
        if self._features is not None:
            transform = self._real or self._features.transform
            records = self._features.of_maps(transform(records))
        logits = [member(records) for member in self.members]
        together = logits[0] if len(logits) == 1 else self._decided(logits)
        return torch.softmax(together / self._temperature, dim=1)

    def _decided(self, logits: list[torch.Tensor]) -> torch.Tensor:
        """Return what members decide together, as `clients.learning.votes` does."""
        chances = torch.stack([torch.softmax(one, dim=1) for one in logits])
        if not self._majority:
            return torch.log(chances.mean(dim=0).clamp(_LEAST, 1.0))
        classes = chances.shape[2]
        firsts = nn.functional.one_hot(chances.argmax(dim=2), classes).float().sum(dim=0)
        return torch.log((firsts + 1.0 / classes) / (len(logits) + 1.0))


class RealScattering:
    """`Scattering` without complex numbers: each Fourier transform is two products of matrices.

    Args:
        transform: the transform that it stands for.
    """

    def __init__(self, transform: Scattering) -> None:
        self._of = transform
        self._matrices: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the scattering maps of pictures, as `Scattering` does."""
        made = self._of
        channels = pictures.shape[1]
        padded = made.padded(pictures)
        real, imaginary = self._forward(padded)
        maps = [made.blur(padded, 0)]
        for scale, waves in enumerate(made.first):
            ring = self._inverse_size(
                fold(real * waves, 2**scale), fold(imaginary * waves, 2**scale)
            )
            maps.append(made.blur(ring, scale))
            if scale == made.scales - 2:
                deep_real, deep_imaginary = self._forward(ring)
                inner = self._inverse_size(
                    fold(deep_real.unsqueeze(2) * made.second, 2),
                    fold(deep_imaginary.unsqueeze(2) * made.second, 2),
                ).flatten(1, 2)
                last = made.blur(inner, made.scales - 1)
        joined = torch.cat([*maps, last], dim=1)
        return joined.reshape(-1, channels * made.shape[0], *made.shape[1:])

    def _forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the real and imaginary parts of the transform of real values [..., h, w]."""
        return self._along_both(values, torch.zeros_like(values), inverse=False)

    def _inverse_size(self, real: torch.Tensor, imaginary: torch.Tensor) -> torch.Tensor:
        """Return the modulus of the inverse transform."""
        there, too = self._along_both(real, imaginary, inverse=True)
        size = there.shape[-1] * there.shape[-2]
        return torch.sqrt(there * there + too * too) / size

    def _along_both(
        self, real: torch.Tensor, imaginary: torch.Tensor, *, inverse: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        turn = 1.0 if inverse else -1.0
        cosine, sine = self._waves(real.shape[-1])
        sine = turn * sine
        rows = real @ cosine - imaginary @ sine, real @ sine + imaginary @ cosine
        cosine, sine = self._waves(real.shape[-2])
        sine = turn * sine
        return cosine @ rows[0] - sine @ rows[1], sine @ rows[0] + cosine @ rows[1]

    def _waves(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines [size, size] of a Fourier transform."""
        if size not in self._matrices:
            places = torch.arange(size, dtype=torch.float64)
            angles = 2 * torch.pi * (places[:, None] * places[None] % size) / size
            self._matrices[size] = angles.cos().float(), angles.sin().float()
        return self._matrices[size]
