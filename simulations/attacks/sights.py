"""What somebody sees of a single round, in each regime."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accounting.attack_limits import epsilon_or_rdp
from accounting.events import GaussianEvent
from accounting.vocabulary import REGIMES
from simulations.attacks.ground import Ground, Way

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from clients.contract.terms import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What somebody sees of a round.

    Attributes:
        way: the regime.
        single: one hospital's update; else the sum.
        title: what it is, in a few words.
    """

    way: Way
    single: bool
    title: str

    @property
    def sealed(self) -> str | None:
        """Whether this is what a seal leaves to see; None where nothing travels to be sealed."""
        if REGIMES[self.way.regime].pooled:
            return None
        return "no" if self.single else "yes"

    def multiplier(self, terms: Terms) -> float:
        """Return the noise in what is seen, in clips."""
        noise = terms.noise
        if self.single:
            return noise.multiplier_of_update
        if REGIMES[self.way.regime].noise == "local":
            # Each update has by itself what the claim needs, so their sum has more.
            return noise.multiplier_of_update * math.sqrt(noise.hospitals)
        return noise.multiplier_of_sum

    def apart(self, terms: Terms) -> float:
        """Return how far a patient in all of a round moves it, in standard deviations of its noise.

        Infinity without noise. Of several local steps each has its noise, and the patient in it:
        together they are sqrt(steps) times as far apart (Dong et al. 2022, corollary 3.3).
        """
        noise = self.multiplier(terms)
        return math.sqrt(steps_of_round(terms)) / noise if noise else math.inf

    def epsilon(self, terms: Terms, settings: Settings) -> float | None:
        """Return epsilon of whoever sees this in every round of a run; None without noise."""
        if not self.multiplier(terms):
            return None
        event = GaussianEvent(
            sampling_rate=terms.schedule.sampling_rate,
            noise_multiplier=self.multiplier(terms),
            count=terms.schedule.events,
        )
        return epsilon_or_rdp([event], settings.privacy.delta, settings.privacy.accountant)


def steps_of_round(terms: Terms) -> int:
    """Return how many noised sums a hospital's update of one round is made of."""
    return terms.schedule.events // terms.rounds


def sights(ground: Ground) -> Iterator[Sight]:
    """Yield what is attacked; the first is the control, whatever regimes are asked for."""
    yield Sight(way=Way(regime="F"), single=True, title="a single update, unsealed")
    for way in ground.ways():
        kind = REGIMES[way.regime]
        if kind.pooled:
            yield Sight(way=way, single=False, title="the pooled step")
            continue
        if kind.noise == "local":
            yield Sight(way=way, single=True, title="a single update")
        elif kind.noise == "semi-central":
            yield Sight(way=way, single=True, title="a single share")
        # Sums of groups are opened apart, so nobody is left with less to see than one of them.
        size = ground.told(way).exchange.group_size
        if size != 1:
            title = f"the sum of a group of {size}" if size else "the sum"
            yield Sight(way=way, single=False, title=title)
