"""Property inference: what one round tells of a hospital as a whole, here how common a class is.

Melis et al. (2019) and Ganju et al. (2018): properties of the data that no single record has. In
each game a hospital samples a batch of which 30% or 70% are of the first class, by the toss of a
coin. The attacker has made updates of both kinds from public records, and asks which of the two an
update lies nearer to, along the line between their means: the best there is against Gaussian noise.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr

from accounting.vocabulary import REGIMES
from clients.contract.settings import SettingsError
from clients.data.records import Records
from simulations.attacks.ground import Ground, Way
from simulations.attacks.one_round import OneRound
from simulations.attacks.result import Column, Control, Result, beyond, guessed
from simulations.attacks.sights import Sight, sights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

NAME = "property-inference"
#: Patients of a batch, and the shares of the first class that are to be told apart.
BATCH, SHARES = 20, (0.3, 0.7)
#: Games, unless trials are asked for, and public batches of each kind that the attacker makes.
GAMES, REHEARSALS = 200, 20
#: What the control has to reach: a model that has learnt leaves less in an update than a new one.
TOLD = 0.7

COLUMNS = (
    Column(key="way", title="Regime", form="text"),
    Column(key="sees", title="What is seen", form="text"),
    Column(key="sealed", title="Sealed", form="text"),
    Column(key="told", title="Told apart"),
    Column(key="allowed", title="Allowed"),
    Column(key="run_epsilon", title="epsilon", form="epsilon"),
)
CAPTION = (
    f"Whether {SHARES[0]:.0%} or {SHARES[1]:.0%} of the {BATCH} patients that a hospital sampled "
    "are of the first class; half is a guess. Sealed: with a seal the sum is left to see, without "
    "one each update or share. In the sum all other hospitals sample as many of "
    "their own. Allowed: the two batches differ in "
    f"{round((SHARES[1] - SHARES[0]) * BATCH)} patients, so that many replacements are what the "
    "noise of a round hides (group privacy); epsilon is a promise to a patient, never about a "
    "hospital. Epsilon: for a patient, of whoever sees this in every round."
)


def attack(ground: Ground) -> Result:
    """Attack one round of each regime in which hospitals are by themselves.

    Raises:
        SettingsError: the exchange is none of sums, or there are too few public records.
    """
    started = time.perf_counter()
    ground.require(NAME, about="updates that are summed")
    seen = [one for one in sights(ground) if not REGIMES[one.way.regime].pooled]
    people = _People.of(ground)
    games = ground.trials or GAMES
    rows: list[dict[str, Any]] = []
    alarms = []
    for number, sight in enumerate(seen):
        ground.listener(f"attack {NAME}", number, len(seen))
        row, hits = _row(ground, sight, people, games)
        rows.append(row)
        if beyond(hits, games, row["allowed"], of=len(seen)):
            alarms.append(
                f"{row['way']}, {row['sees']}: {hits} of {games} are told apart, where at most "
                f"{row['allowed']:.3g} are allowed"
            )
    return Result(
        attack=NAME,
        title="What a round tells of a hospital: how common a class is",
        columns=COLUMNS,
        rows=rows,
        caption=CAPTION,
        control=Control(
            text=f"F, a single unsealed update: {rows[0]['told']:.0%} told apart",
            succeeded=rows[0]["told"] >= TOLD
            and not guessed(round(rows[0]["told"] * games), games, 0.5),
        ),
        alarms=tuple(alarms),
        facts=f"{ground.settings.data.name}, {ground.settings.model.name}, "
        f"{ground.settings.partition.hospitals} hospitals, {games} games a row",
        seed=ground.seed,
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, kw_only=True)
class _People:
    """Records that batches are made of, as the model wants them.

    Attributes:
        private: of the hospitals.
        public: of the holdout.
    """

    private: Records
    public: Records

    @classmethod
    def of(cls, ground: Ground) -> _People:
        """Gather them."""
        whole = ground.cohorts.split(ground.told(Way(regime="C")), 1)
        (private,) = whole.records.values()
        people = cls(private=ground.prepared(private), public=ground.prepared(whole.holdout))
        for part in (people.private, people.public):
            for first in (True, False):
                if (found := int(np.sum((part.labels == 0) == first))) < BATCH:
                    which = "the first class" if first else "the other classes"
                    raise SettingsError(
                        [f"{NAME} takes {BATCH} records of {which}; there are {found}."]
                    )
        return people


def _batch(records: Records, share: float, generator: np.random.Generator) -> Records:
    """Draw a batch with so many of the first class, each record a patient of its own."""
    count = round(share * BATCH)
    first, others = (np.flatnonzero((records.labels == 0) == one) for one in (True, False))
    rows = np.concatenate(
        [
            generator.choice(first, count, replace=False),
            generator.choice(others, BATCH - count, replace=False),
        ]
    )
    drawn = records.take(rows)
    return Records(
        inputs=np.asarray(drawn.inputs),
        labels=drawn.labels,
        patients=np.arange(BATCH, dtype=np.int64),
    )


def _row(ground: Ground, sight: Sight, people: _People, games: int) -> tuple[dict[str, Any], int]:
    """Play against one sight; return its row, and how often the attacker was right."""
    settings = ground.told(sight.way)
    made = OneRound(
        settings,
        ground.cohorts.of(settings),
        ground.noise_multiplier(settings),
        model=ground.model(),
        seed=ground.seed,
    )
    hits = _games(ground, sight, people, games, made)
    replaced = round((SHARES[1] - SHARES[0]) * BATCH)
    return {
        "way": sight.way.label,
        "sees": sight.title,
        "sealed": sight.sealed,
        "told": hits / games,
        # To replace a patient is to take one away and to add one: 2/sigma apart, for each of them.
        "allowed": float(ndtr(replaced * sight.apart(made.terms))),
        "run_epsilon": sight.epsilon(made.terms, settings),
    }, hits


def _games(ground: Ground, sight: Sight, people: _People, games: int, made: OneRound) -> int:
    """Return how many of the games the attacker wins."""
    generator = np.random.default_rng([ground.seed, 0x9209])
    few, many = (
        np.mean(
            [made.exact(_batch(people.public, share, generator)) for _ in range(REHEARSALS)], axis=0
        )
        for share in SHARES
    )
    common = _common_share(people.private)
    others = 0 if sight.single else made.summed - 1
    # What the others add is guessed at the share that is common.
    added = others * (few + (common - SHARES[0]) / (SHARES[1] - SHARES[0]) * (many - few))
    hits = 0
    for coin in generator.integers(0, 2, games):
        batches = [_batch(people.private, SHARES[coin], generator)]
        batches += [_batch(people.private, common, generator) for _ in range(others)]
        seen = made.update(batches[0]) if sight.single else made.sum_of(batches)
        score = (many - few) @ (seen - added - (few + many) / 2)
        hits += int(score > 0) == int(coin)
    return hits


def _common_share(records: Records) -> float:
    """How common the first class is, between the shares that are told apart, in whole patients."""
    common = float(np.mean(records.labels == 0))
    return round(min(max(common, SHARES[0]), SHARES[1]) * BATCH) / BATCH
