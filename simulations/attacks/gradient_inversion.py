"""Gradient inversion: the record that comes back from what is seen of a single round.

Two attackers look at each sight. One knows the model and the noise, and has public records to tell
what records are like: it rebuilds the record. The other is as strong as a guarantee allows for: it
knows all that went into the sum but one record, and ten records of which that one is; it picks the
likeliest. How often it can be right is what theory bounds, so its row stands beside the bound.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from accounting.attack_limits import Limit
from clients.data.records import Records
from simulations.attacks.ground import Ground
from simulations.attacks.inversion import descended, linear_start
from simulations.attacks.one_round import OneRound
from simulations.attacks.result import Column, Control, Result, beyond
from simulations.attacks.sights import Sight, sights, steps_of_round
from simulations.attacks.targets import CANDIDATES, TARGETS, Targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

NAME = "gradient-inversion"
#: How often the informed attacker picks, unless trials are asked for.
TRIALS = 200
#: What the control has to reach: likeness of pictures, decibels of anything, share of right picks
#: of ten. A model that has learnt leaves little in an update of patients whom it is sure about.
LIKE, DECIBELS, RIGHT = 0.8, 25.0, 0.75

COLUMNS = (
    Column(key="way", title="Regime", form="text"),
    Column(key="sees", title="What is seen", form="text"),
    Column(key="sealed", title="Sealed", form="text"),
    Column(key="ssim", title="SSIM"),
    Column(key="psnr", title="PSNR, dB", form="decibel"),
    Column(key="picked", title="Picked"),
    Column(key="allowed", title="Allowed"),
    Column(key="run_epsilon", title="epsilon", form="epsilon"),
)
CAPTION = (
    "Each hospital samples one patient. Sealed: a seal leaves the sum to see; without one, or "
    "where it is broken, each update or share is seen; pooled data have none. SSIM and PSNR: "
    "medians over patients of what an attacker rebuilds who knows the model, the noise and public "
    "records; they have no bound. Picked: how often an attacker picks the patient's record out of "
    "ten who knows everybody else in the sum as well; allowed: the most that anybody reaches "
    "against this noise in one round in which the patient is known to be sampled. Epsilon: of "
    "whoever sees this in every round of the run."
)


def attack(ground: Ground) -> Result:
    """Attack one round of each regime.

    Raises:
        SettingsError: the exchange is none of sums, or the model learns from features.
    """
    started = time.perf_counter()
    ground.require(NAME, about="updates that are summed", records="rebuilds")
    targets = Targets.of(ground)
    seen = list(sights(ground))
    steps = Steps(ground, len(seen) * targets.count)
    rows = [_guess_row(targets)]
    pictures = [list(targets.truth), [targets.prior.mean] * targets.count]
    alarms, trials = [], 0
    for sight in seen:
        attacked = _Attacked(ground, sight, targets)
        rebuilt = attacked.rebuilt(steps)
        hits, trials = attacked.picks()
        row = attacked.row(rebuilt, hits / trials)
        rows.append(row)
        pictures.append(rebuilt)
        if beyond(hits, trials, row["allowed"], of=len(seen)):
            alarms.append(
                f"{row['way']}, {row['sees']}: {hits} of {trials} picks are right, where no attack "
                f"should be right more often than {row['allowed']:.3g}"
            )
    labels = ["the record", "a guess", *(f"{s.way.label}: {s.title}" for s in seen)]
    return Result(
        attack=NAME,
        title="Records that come back from one round",
        columns=COLUMNS,
        rows=rows,
        caption=CAPTION,
        control=_control(rows[1]),
        alarms=tuple(alarms),
        drawn=targets.drawn(labels, pictures) if ground.settings.data.public else {},
        facts=f"{targets.facts(ground)}; {trials} picks a row",
        seed=ground.seed,
        seconds=time.perf_counter() - started,
    )


def _control(row: dict[str, Any]) -> Control:
    like = row["psnr"] >= DECIBELS or (row["ssim"] or 0.0) >= LIKE
    found = f"{row['psnr']:.1f} dB" + ("" if row["ssim"] is None else f", SSIM {row['ssim']:.2f}")
    return Control(
        text=f"F, a single unsealed update: {found}, {row['picked']:.0%} of picks right",
        succeeded=bool(like and row["picked"] >= RIGHT),
    )


class Steps:
    """How far an attack has come, told to whoever listens."""

    def __init__(self, ground: Ground, total: int) -> None:
        self._tell = partial(ground.listener, f"attack {NAME}")
        self._total, self._done = total, 0
        self._tell(0, total)

    def __call__(self) -> None:
        """Tell of one more."""
        self._done += 1
        self._tell(self._done, self._total)


def _guess_row(targets: Targets) -> dict[str, Any]:
    """What somebody reaches who sees nothing and guesses the mean of public records."""
    alike, decibels = targets.likeness([targets.prior.mean] * targets.count)
    return {
        "way": "-",
        "sees": "nothing (a guess)",
        "epsilon": None,
        "noise": None,
        "ssim": alike,
        "psnr": decibels,
        "picked": 1.0 / CANDIDATES,
        "allowed": 1.0 / CANDIDATES,
        "run_epsilon": 0.0,
    }


class _Attacked:
    """One sight under attack."""

    def __init__(self, ground: Ground, sight: Sight, targets: Targets) -> None:
        self._ground, self._sight, self._targets = ground, sight, targets
        settings = ground.told(sight.way)
        self._settings = settings
        self._round = OneRound(
            settings,
            ground.cohorts.of(settings),
            ground.noise_multiplier(settings),
            model=ground.model(),
            seed=ground.seed,
        )
        self._multiplier = sight.multiplier(self._round.terms)

    def rebuilt(self, steps: Steps) -> list[Vector]:
        """Return the record that comes back of each target, float64 ``[values]``."""
        targets, found = self._targets, []
        terms = self._round.terms
        stddev = self._multiplier * terms.l2_clip * math.sqrt(steps_of_round(terms))
        start = linear_start(self._round.module)
        for number in range(targets.count):
            update = self._seen(self._with_others(number))
            if start is not None:
                found.append(start.inverted(update, stddev, targets.prior))
            else:
                width = targets.high - targets.low
                mean = targets.prior.mean
                found.append(descended(self._round.module, update, mean, targets.shape, width))
            steps()
        return found

    def picks(self) -> tuple[int, int]:
        """Return how often the informed attacker picks the right record, and of how many times.

        Each of the ten is the right one with the same chance, which is what the bound is about.
        """
        trials = self._ground.trials or TRIALS
        generator = np.random.default_rng([self._ground.seed, 0x91C5])
        hits, per_target, public = 0, -(-trials // TARGETS), self._targets.public
        for own in self._targets.own[:TARGETS]:
            others = generator.choice(len(public), CANDIDATES - 1, replace=False)
            records = [own, *(public.take([int(number)]) for number in others)]
            known = np.stack([self._round.exact(one) for one in records])
            for right in generator.integers(CANDIDATES, size=per_target):
                update = self._seen([records[right]])
                scores = known @ update - 0.5 * np.sum(known**2, axis=1)
                best = np.flatnonzero(scores == scores.max())
                hits += int(generator.choice(best)) == right
        return hits, per_target * TARGETS

    def _with_others(self, number: int) -> list[Records]:
        """A target's record, and those of a patient of each other hospital."""
        own = self._targets.own
        pooled = self._settings.regime.pooled
        hospitals = self._settings.partition.hospitals if pooled else self._round.summed
        return [own[(number + other) % len(own)] for other in range(hospitals)]

    def _seen(self, batches: Sequence[Records]) -> Vector:
        """What is seen of a round in which hospitals sampled these; all others sampled nobody."""
        if self._sight.single:
            return self._round.update(batches[0])
        if self._settings.regime.pooled:
            return self._round.update(_together(batches))
        return self._round.sum_of(batches)

    def row(self, rebuilt: Sequence[Vector], picked: float) -> dict[str, Any]:
        """Return the row of this sight."""
        alike, decibels = self._targets.likeness(rebuilt)
        limit = Limit(mu=self._sight.apart(self._round.terms))
        return {
            "way": self._sight.way.label,
            "sees": self._sight.title,
            "sealed": self._sight.sealed,
            "epsilon": self._sight.way.epsilon,
            "noise": self._multiplier,
            "ssim": alike,
            "psnr": decibels,
            "picked": picked,
            "allowed": limit.most_hits(1.0 / CANDIDATES),
            "run_epsilon": self._sight.epsilon(self._round.terms, self._settings),
        }


def _together(batches: Sequence[Records]) -> Records:
    """Return the records of several patients as one batch; each is a patient of its own."""
    return Records(
        inputs=np.concatenate([np.asarray(one.inputs) for one in batches]),
        labels=np.concatenate([one.labels for one in batches]),
        patients=np.arange(len(batches), dtype=np.int64),
    )
