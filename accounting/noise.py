"""Noise plans: one object gives both the noise a hospital adds and the privacy event it costs.

    >>> plan = make_noise_plan("semi-central", noise_multiplier=1.15, hospitals=10, dropouts=1)
    >>> round(plan.stddev_per_hospital(l2_clip=1.0), 4)  # what each hospital adds
    0.3833
    >>> plan.event(sampling_rate=0.03, rounds=60)  # what it costs a patient
    GaussianEvent(sampling_rate=0.03, noise_multiplier=1.15, count=60)

Neighbouring data sets differ by one patient at one hospital, whose contribution to the hospital's
sum has L2 norm at most the clip C. `hospitals` K are expected, `dropouts` d of them may be
missing from a sum, and `colluders` c may subtract their own noise from it, so a claim rests on
K_min = K - d - c shares of noise; what more there is is never credited. Where hospitals can take
noise out of a sum together, it comes in parts (`accounting.parts`): a sum then carries what it
needs, whoever is missing, and no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from accounting.errors import AccountingError
from accounting.events import Event, GaussianEvent, check_noise_multiplier, check_rounds
from accounting.parts import NoiseParts, plan_parts


class NoisePlan(Protocol):
    """How noise is shared out, what a patient's cost is, and when that holds."""

    @property
    def name(self) -> str:
        """The plan's name, as in the table of plans."""

    @property
    def hospitals(self) -> int:
        """K, the hospitals expected in a sum."""

    @property
    def dropouts(self) -> int:
        """Hospitals that may be missing from a sum."""

    @property
    def colluders(self) -> int:
        """Hospitals that may subtract their own noise."""

    @property
    def min_contributions(self) -> int:
        """Contributions (K - d) below which a sum must not be opened."""

    @property
    def honest_contributions(self) -> int:
        """K_min = K - d - c: shares of noise that a claim rests on."""

    @property
    def multiplier_of_sum(self) -> float:
        """Noise of the opened sum in units of the clip, colluders' shares left out."""

    @property
    def multiplier_of_update(self) -> float:
        """Noise of one hospital's own update in units of the clip."""

    @property
    def parts(self) -> NoiseParts | None:
        """The parts of that, in units of the clip; None where it is whole."""

    def kept(self, missing: int) -> float:
        """Noise of one update that stays when so many hospitals are missing, as a multiplier."""

    def stddev_per_hospital(self, l2_clip: float) -> float:
        """Standard deviation of the noise one hospital adds, in the units of `l2_clip`."""

    def event(self, sampling_rate: float, rounds: int = 1) -> Event | None:
        """What `rounds` releases cost a patient, seen by the plan's observer; None: no noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """The four plans differ only in the two multipliers, so they are one record."""

    name: str
    noise_multiplier: float
    hospitals: int
    dropouts: int
    colluders: int
    multiplier_of_update: float
    multiplier_of_sum: float
    parts: NoiseParts | None = None

    @property
    def min_contributions(self) -> int:
        return self.hospitals - self.dropouts

    @property
    def honest_contributions(self) -> int:
        return self.hospitals - self.dropouts - self.colluders

    def kept(self, missing: int) -> float:
        if self.parts is None or missing == self.dropouts:
            return self.multiplier_of_update
        return self.parts.kept(missing)

    def stddev_per_hospital(self, l2_clip: float) -> float:
        if not (l2_clip > 0.0 and math.isfinite(l2_clip)):
            raise AccountingError(f"l2_clip is {l2_clip}, expected > 0 and finite")
        return self.multiplier_of_update * l2_clip

    def event(self, sampling_rate: float, rounds: int = 1) -> Event | None:
        check_rounds(rounds)
        if self.noise_multiplier == 0.0:
            return None
        return GaussianEvent(
            sampling_rate=sampling_rate, noise_multiplier=self.noise_multiplier, count=rounds
        )


def _none(noise_multiplier: float, honest: int) -> tuple[float, float]:
    """No noise, no guarantee."""
    if noise_multiplier != 0.0:
        raise AccountingError(
            f"noise plan none has noise_multiplier {noise_multiplier}, expected 0"
        )
    return 0.0, 0.0


def _local(noise_multiplier: float, honest: int) -> tuple[float, float]:
    """Every hospital adds sigma*C alone: each update is private by itself (FPDP).

    A sum of several carries more; a patient's claim does not need it, and none is credited.
    """
    check_noise_multiplier(noise_multiplier)
    return noise_multiplier, noise_multiplier


def _semi_central(noise_multiplier: float, honest: int) -> tuple[float, float]:
    """Every hospital adds std sigma*C/sqrt(K_min): the sum carries sigma*C (FSCDP).

    Malekzadeh et al. 2021, Algorithm 1; its line 13 prints sigma*C/sqrt(K) as a variance.
    """
    check_noise_multiplier(noise_multiplier)
    return noise_multiplier / math.sqrt(honest), noise_multiplier


def _central(noise_multiplier: float, honest: int) -> tuple[float, float]:
    """A trusted curator adds sigma*C once to the sum over pooled data (CDP)."""
    check_noise_multiplier(noise_multiplier)
    return noise_multiplier, noise_multiplier


NOISE_PLANS: dict[str, Callable[[float, int], tuple[float, float]]] = {
    "none": _none,
    "local": _local,
    "semi-central": _semi_central,
    "central": _central,
}


def make_noise_plan(
    name: str,
    *,
    noise_multiplier: float,
    hospitals: int,
    dropouts: int = 0,
    colluders: int = 0,
    removable: bool = False,
) -> NoisePlan:
    """The noise plan of that name.

    Guarantee: a release made with `stddev_per_hospital` by at least `min_contributions`
    hospitals costs any patient at most `event`, for neighbours that differ by one patient at one
    hospital, to an observer who holds up to `colluders` hospitals' noise. Under `local` and
    `central` this holds for each update by itself, whoever colludes.

    Args:
        name: "none", "local", "semi-central" or "central".
        noise_multiplier: sigma, in units of the clip; 0 for "none".
        hospitals: K, expected in a sum.
        dropouts: d, how many of them may be missing.
        colluders: c, how many may subtract their own noise.
        removable: whether hospitals open seeds of noise together, as keys for one sum let them;
            shares of noise then come in parts.

    Raises:
        AccountingError: an unknown name, sigma <= 0, or c + d >= K.

    Source: Malekzadeh et al. 2021 (Dopamine), sections 4.1-4.3.
    """
    _check(name, hospitals, dropouts, colluders)
    update, total = NOISE_PLANS[name](noise_multiplier, hospitals - dropouts - colluders)
    parts = None
    if removable and name == "semi-central" and dropouts:
        parts = plan_parts(
            noise_multiplier, hospitals=hospitals, dropouts=dropouts, colluders=colluders
        )
    return _Plan(
        name=name,
        noise_multiplier=noise_multiplier,
        hospitals=hospitals,
        dropouts=dropouts,
        colluders=colluders,
        multiplier_of_update=update,
        multiplier_of_sum=total,
        parts=parts,
    )


def _check(name: str, hospitals: int, dropouts: int, colluders: int) -> None:
    if name not in NOISE_PLANS:
        raise AccountingError(f"noise plan is {name!r}, expected one of {', '.join(NOISE_PLANS)}")
    if hospitals < 1:
        raise AccountingError(f"hospitals is {hospitals}, expected >= 1")
    if dropouts < 0 or colluders < 0:
        raise AccountingError(f"dropouts {dropouts} and colluders {colluders} must be >= 0")
    if dropouts + colluders >= hospitals:
        raise AccountingError(
            f"dropouts + colluders is {dropouts + colluders}, expected less than the "
            f"{hospitals} hospitals: somebody's noise must remain"
        )


def multiplier_against(plan: NoisePlan, hospitals: int, held: int | None = None) -> float:
    """Noise left in an opened sum for so many other hospitals, who know their own shares of it.

    In units of the clip, whoever is missing. Of the contributions in the sum the patient's own
    hospital's is one, and is never theirs. What is more than sigma is not credited.

    Args:
        plan: of the noise.
        hospitals: how many they are.
        held: so many learn no more seeds of noise than are opened for all; more of them may have
            enough shares of every seed, and n_0 alone is left. None: however many they are.
    """
    if plan.name != "semi-central":
        return plan.multiplier_of_sum
    every_seed = held is not None and hospitals > held
    # Whole shares are worth least where most are missing; of parts fewer stay with fewer missing.
    least = min(
        plan.kept(0 if every_seed else missing)
        * math.sqrt(max(1, plan.hospitals - missing - hospitals))
        for missing in (range(plan.dropouts + 1) if plan.parts else (plan.dropouts,))
    )
    return min(plan.multiplier_of_sum, least)
