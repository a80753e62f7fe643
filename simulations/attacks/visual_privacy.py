"""Visual privacy: what a denoiser gets back of pictures that were noised before anything saw them.

Singh et al. (2020) add Laplace noise of scale 1, 2 and 4 to pictures between 0 and 1, and find that
it does not always hide what it should. Here the app's own input noise is put on hospitals'
pictures, and an attacker who has public ones takes off what can be taken off: by a Wiener filter
over them, or by a blur, whichever does better on public pictures under the same noise. A second
attacker has ten pictures and picks the one that was noised, by the exact likelihood: that is what
an epsilon is about.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter

from accounting.attack_limits import Limit
from accounting.input_noise import LEVELS, InputNoise
from accounting.randomness import Stream
from clients.contract.settings import SettingsError
from clients.data.records import SPATIAL_KINDS
from simulations.attacks.ground import Ground, Way
from simulations.attacks.inversion import Prior
from simulations.attacks.pictures import as_text, can_be_drawn
from simulations.attacks.result import Column, Control, Result, beyond, guessed
from simulations.attacks.similarity import psnr, ssim

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pictures = NDArray[np.float64]

NAME = "visual-privacy"
#: Scales of the noise, in widths of the range: the first is the control, the others are published.
SCALES = (0.05, 0.25, 1.0, 2.0, 4.0)
#: Pictures of patients that are noised, public ones that a denoiser is chosen on, those that it
#: knows, and how often the informed attacker picks, unless trials are asked for.
NOISED, CHOSEN_ON, MOST_PUBLIC, TRIALS = 20, 10, 1000, 200
#: Pictures that the informed attacker picks from, and blurs, in pixels.
CANDIDATES, BLURS = 10, (0.7, 1.5, 3.0)
#: What the control has to reach.
LIKE = 0.75

COLUMNS = (
    Column(key="way", title="Noise", form="text"),
    Column(key="noisy", title="SSIM, noised"),
    Column(key="ssim", title="SSIM, denoised"),
    Column(key="psnr", title="PSNR, dB", form="decibel"),
    Column(key="by", title="By", form="text"),
    Column(key="picked", title="Picked"),
    Column(key="allowed", title="Allowed"),
    Column(key="run_epsilon", title="epsilon", form="epsilon"),
)
CAPTION = (
    "Laplace noise on each pixel, its scale in widths of the range; it comes before anything else, "
    "whatever the regime. Denoised: by what does best on public pictures under the same noise. "
    "Picked: how often the noised picture is picked out of ten; allowed: what the epsilon of a "
    "whole picture leaves possible, which is everything. Epsilon: of all pixels of a picture."
)


def attack(ground: Ground) -> Result:
    """Noise pictures and take off what can be taken off.

    Raises:
        SettingsError: records are no pictures, or there are too few public ones.
    """
    started = time.perf_counter()
    shown = _Shown.of(ground)
    rows: list[dict[str, Any]] = [shown.guess()]
    drawn = [shown.private[:4]]
    labels, alarms = ["the record"], []
    trials = ground.trials or TRIALS
    for number, scale in enumerate(SCALES):
        ground.listener(f"attack {NAME}", number, len(SCALES))
        row, noisy, clean = shown.attacked(scale, number)
        hits = shown.picks(scale, number, trials)
        row["picked"] = hits / trials
        if beyond(hits, trials, row["allowed"], of=len(SCALES)):
            alarms.append(f"{row['way']}: {hits} of {trials} picks, {row['allowed']:.3g} allowed")
        rows.append(row)
        labels += [f"{row['way']}: noised", f"{row['way']}: denoised"]
        drawn += [noisy[:4], clean[:4]]
    info, control = ground.cohort.info, rows[1]
    public = ground.settings.data.public and can_be_drawn(info.shape)
    return Result(
        attack=NAME,
        title="What a denoiser gets back of noised pictures",
        columns=COLUMNS,
        rows=rows,
        caption=CAPTION,
        control=Control(
            text=f"{control['way']}: SSIM {control['ssim']:.2f}, {control['picked']:.0%} of picks "
            "right",
            succeeded=bool(control["ssim"] >= LIKE and control["picked"] > 0.95)
            and not guessed(round(control["picked"] * trials), trials, 1 / CANDIDATES),
        ),
        alarms=tuple(alarms),
        drawn={
            "shape": list(info.shape),
            "labels": labels,
            "pictures": [[as_text(one, (0.0, 1.0)) for one in column] for column in drawn],
        }
        if public
        else {},
        facts=f"{ground.settings.data.name}, {len(shown.private)} pictures",
        seed=ground.seed,
        seconds=time.perf_counter() - started,
    )


class _Shown:
    """Pictures of patients and public ones, with values from 0 to 1, float64 ``[n, *shape]``."""

    def __init__(self, private: Pictures, public: Pictures, seed: int) -> None:
        self.private, self._public, self._seed = private, public, seed
        self._prior = Prior.of(public[CHOSEN_ON:])

    @classmethod
    def of(cls, ground: Ground) -> _Shown:
        """Choose them by the attack's seed."""
        info = ground.cohort.info
        if info.kind not in SPATIAL_KINDS:
            raise SettingsError(
                [f"data.name = {ground.settings.data.name}: {NAME} is about pictures and volumes."]
            )
        whole = ground.cohorts.split(ground.told(Way(regime="C")), 1)
        (held,) = whole.records.values()
        generator = np.random.default_rng([ground.seed, 0x715A])
        low, high = info.input_range
        parts = []
        for records, most in ((held, NOISED), (whole.holdout, MOST_PUBLIC)):
            rows = np.sort(generator.permutation(len(records))[:most])
            values = np.asarray(records.take(rows).inputs, dtype=np.float64)
            parts.append((values - low) / (high - low))
        if len(parts[1]) < 2 * CHOSEN_ON:
            raise SettingsError([f"{NAME} takes {2 * CHOSEN_ON} public pictures."])
        return cls(parts[0], parts[1], ground.seed)

    def guess(self) -> dict[str, Any]:
        """Return the row of who sees nothing and guesses the mean of public pictures."""
        mean = self._prior.mean.reshape(self.private.shape[1:])
        alike, decibels = _likeness(self.private, [mean] * len(self.private))
        return {
            "way": "nothing seen", "noisy": None, "ssim": alike, "psnr": decibels,
            "by": "a guess", "picked": 1 / CANDIDATES, "allowed": 1 / CANDIDATES,
            "run_epsilon": 0.0,
        }  # fmt: skip

    def attacked(self, scale: float, number: int) -> tuple[dict[str, Any], Pictures, Pictures]:
        """Return a scale's row, the pictures with its noise, and what comes back of them."""
        noise = InputNoise(scale=scale, values=int(np.prod(self.private.shape[1:])))
        known = self._public[:CHOSEN_ON]
        rehearsed = self._noised(known, noise, f"rehearsal {number}")
        denoisers = self._denoisers(scale)
        best = max(denoisers, key=lambda one: _likeness(known, denoisers[one](rehearsed))[0])
        noisy = self._noised(self.private, noise, f"scale {number}")
        clean = denoisers[best](noisy)
        alike, decibels = _likeness(self.private, clean)
        claim = (noise.epsilon_record, noise.delta_record)
        row = {
            "way": f"scale {scale:g}",
            "noisy": _likeness(self.private, noisy)[0],
            "ssim": alike,
            "psnr": decibels,
            "by": best,
            "allowed": Limit(claims=(claim,)).most_hits(1 / CANDIDATES),
            "run_epsilon": noise.epsilon_record,
        }
        return row, noisy, clean

    def picks(self, scale: float, number: int, trials: int) -> int:
        """Return how often the picture that was noised is picked out of ten."""
        generator = np.random.default_rng([self._seed, 0x915C, number])
        noise = InputNoise(scale=scale, values=int(np.prod(self.private.shape[1:])))
        stream = Stream.from_seed(self._seed, "attack picks", number)
        hits = 0
        for _ in range(trials):
            chosen = generator.choice(len(self._public), CANDIDATES, replace=False)
            right = int(generator.integers(CANDIDATES))
            levels = noise.levels(self._public[chosen]).reshape(CANDIDATES, -1).astype(np.int64)
            seen = noise.perturb_levels(levels[right].astype(np.int16), stream)
            # Of discrete Laplace noise the likeliest centre is the one at the least distance.
            hits += int(np.abs(levels - seen).sum(axis=1).argmin()) == right
        return hits

    def _noised(self, pictures: Pictures, noise: InputNoise, label: str) -> Pictures:
        stream = Stream.from_seed(self._seed, "attack", label)
        return noise.perturb(pictures, stream).astype(np.float64) / LEVELS

    def _denoisers(self, scale: float) -> Mapping[str, Callable[[Pictures], Pictures]]:
        stddev = float(np.sqrt(2.0)) * scale
        shape = self.private.shape[1:]

        def wiener(noisy: Pictures) -> Pictures:
            rows = noisy.reshape(len(noisy), -1)
            found = [self._prior.weighed(one, stddev).reshape(shape) for one in rows]
            return np.clip(np.stack(found), 0.0, 1.0)

        def blurred(noisy: Pictures, width: float) -> Pictures:
            axes = tuple(range(2, noisy.ndim))
            found: Pictures = gaussian_filter(noisy, width, axes=axes)
            return np.clip(found, 0.0, 1.0)

        blurs = {f"blur {w:g}": lambda noisy, w=w: blurred(noisy, w) for w in BLURS}
        return {"Wiener": wiener, **blurs}


def _likeness(truth: Pictures, found: Sequence[Pictures] | Pictures) -> tuple[float, float]:
    """Return the medians of SSIM and PSNR, what was found cut to the range."""
    pairs = [(a, np.clip(b, 0.0, 1.0)) for a, b in zip(truth, found, strict=True)]
    alike = [ssim(a, b, 1.0) for a, b in pairs]
    return float(np.median(alike)), float(np.median([psnr(a, b, 1.0) for a, b in pairs]))
