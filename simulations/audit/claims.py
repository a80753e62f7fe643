"""What observers who guess the canaries' coins prove, beside what the run claims of them.

An observer adds up what it sees of each canary over all rounds: the opened sums, what is left of
them for a hospital that takes off its own noise, or single updates. Who guesses better than the
claimed epsilon allows has refuted it; by Steinke, Nasr and Jagielski (2023) one run is enough.

A claim can also be wrong as a number. So it is held against the mechanism that the ledgers tell of,
drawn many times over: the share of draws beyond e^epsilon is no accountant's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from accounting.accountants import epsilon
from accounting.audit_bounds import (
    Bound,
    chance_of_guesses,
    correct_guesses,
    family_bound,
    one_run_bound,
    plan_guesses,
    threshold_bound,
)
from accounting.audit_gates import Gate
from accounting.audit_scores import scores_of, threshold_of
from accounting.events import GaussianEvent
from simulations.audit.canary_data import HOSPITALS
from simulations.audit.gates import exact_gate
from simulations.audit.reconciliation import faced

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.contract.settings import Settings
    from simulations.audit.canary_run import CanaryRun
    from simulations.audit.contributions import Read

    Floats = NDArray[np.float64]

#: Row of `privacy.json` -> the observer's name in a ledger's line.
OBSERVERS = {
    "server": "server",
    "any one other hospital": "hospital",
    "server + one key holder": "server+hospitals:1",
}
#: Draws of a whole run, and the delta at which they are counted: rarer is more than they can tell.
DRAWS, LOOSE_DELTA = 20_000, 0.05


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One observer's claim and what was proved of it.

    Attributes:
        observer: as the run's table names it.
        claimed: epsilon, as `privacy.json` has it.
        bounds: lower bounds at 95%.
        gates: of the claim.
    """

    observer: str
    claimed: float
    bounds: tuple[Bound, ...]
    gates: tuple[Gate, ...]


def seen_by(observer: str, found: Read) -> Floats:
    """Return what an observer sees of every canary in each round, in clips, ``[rounds, m]``.

    Args:
        observer: a row of `privacy.json`.
        found: a run in which every hospital answered once in every round.
    """
    homes = [HOSPITALS.index(one.hospital) for one in found.releases]
    rounds = np.array([one.round for one in found.releases])
    by_home = np.zeros((len(HOSPITALS), rounds.max(), found.parts.shape[1]))
    for home, round, parts in zip(homes, rounds, found.parts, strict=True):
        by_home[home, round - 1] += parts
    canaries = np.arange(found.parts.shape[1])
    own = by_home[found.canaries.hospitals, :, canaries].T
    if observer == "server + one key holder":
        return np.asarray(own)
    if observer == "any one other hospital":
        curious = (found.canaries.hospitals + 1) % len(found.canaries.places)
        return np.asarray(by_home.sum(axis=0) - by_home[curious, :, canaries].T)
    return np.asarray(by_home.sum(axis=0))


def claims_of(run: CanaryRun, found: Read) -> list[Claim]:
    """Return each observer's claim, and what the canaries of a run prove of it."""
    rows = {str(row["observer"]): row for row in run.json("privacy.json")["observers"]}  # type: ignore[attr-defined]
    rounds = max(one.round for one in found.releases)
    sigmas = faced(run.settings, run.noise_multiplier)
    made = []
    for observer, name in OBSERVERS.items():
        noise = sigmas[name]
        assert noise is not None
        event = GaussianEvent(
            sampling_rate=run.settings.training.sampling_rate,
            noise_multiplier=noise,
            count=rounds,
        )
        claimed = rows[observer]["epsilon"]
        value = math.inf if claimed is None else float(claimed.get("prv", claimed["rdp"]))
        made.append(_claim(observer, value, event, seen_by(observer, found), run))
    return made


def _claim(
    observer: str, claimed: float, event: GaussianEvent, seen: Floats, run: CanaryRun
) -> Claim:
    delta, coins = run.settings.privacy.delta, run.canaries.coins
    scores = scores_of(seen, event)
    guessing = plan_guesses(event, len(coins), delta)
    some = slice(0, guessing.canaries)
    right = correct_guesses(scores[some], coins[some], guessing.guesses)
    chance = chance_of_guesses(right, guessing.guesses, guessing.canaries, claimed, delta)
    guesses = Gate(
        name="coins guessed right, as the claim allows",
        subject=observer,
        found=float(right),
        expected=guessing.guesses / (1.0 + math.exp(-min(claimed, 600.0))),
        chance=chance,
    )
    bounds = (
        one_run_bound(scores[some], coins[some], guesses=guessing.guesses, delta=delta),
        threshold_bound(scores, coins, threshold=threshold_of(event), delta=delta),
        family_bound(scores, coins, event, delta=delta),
    )
    return Claim(
        observer=observer,
        claimed=claimed,
        bounds=bounds,
        gates=(
            guesses,
            _drawn_gate(observer, event),
            _said_gate(observer, claimed, event, run.settings),
        ),
    )


def _said_gate(observer: str, claimed: float, event: GaussianEvent, settings: Settings) -> Gate:
    """Return whether the run's table claims no less than what its ledgers cost, nor too much."""
    cost, target = epsilon([event], settings.privacy.delta, "prv"), settings.privacy.target_epsilon
    faults = []
    if claimed < cost - 1e-9:
        faults.append(f"{observer}: {claimed:.4g} is claimed, and the ledgers cost {cost:.4g}")
    if observer == "server" and claimed > target:
        faults.append(f"{observer}: {claimed:.4g} is claimed, beyond the target of {target:g}")
    return exact_gate("claims cover the ledgers, within the target", faults)


def _drawn_gate(observer: str, event: GaussianEvent) -> Gate:
    """Return whether the accountant's epsilon holds of the mechanism when it is drawn."""
    value = epsilon([event], LOOSE_DELTA, "prv")
    random = np.random.default_rng()
    loss = np.zeros(DRAWS)
    once = replace(event, count=1)
    for _ in range(event.count):
        taken = random.random(DRAWS) < event.sampling_rate
        noise = event.noise_multiplier * random.standard_normal(DRAWS)
        loss += scores_of((taken + noise)[None], once)
    beyond = np.maximum(0.0, -np.expm1(np.minimum(value - loss, 0.0)))
    z = (beyond.mean() - LOOSE_DELTA) / (beyond.std() / math.sqrt(DRAWS))
    return Gate(
        name=f"what an epsilon leaves over, at delta {LOOSE_DELTA:g}",
        subject=observer,
        found=float(beyond.mean()),
        expected=LOOSE_DELTA,
        chance=float(stats.norm.sf(z)),
    )


def claims_to_json(claims: list[Claim]) -> list[Mapping[str, object]]:
    """Return claims beside bounds, JSON-ready."""
    return [
        {
            "observer": one.observer,
            "claimed": one.claimed,
            "bounds": [bound.to_json() for bound in one.bounds],
        }
        for one in claims
    ]
