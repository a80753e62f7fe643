"""Statements: what a privacy officer asks of an account, as JSON-ready data.

The command line renders these; nothing here prints.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from accounting.accountants import ACCOUNTANTS
from accounting.calibration import noise_multiplier_for
from accounting.errors import AccountingError
from accounting.events import Event, GaussianEvent, input_epsilon, merge, to_json
from accounting.ledger import read_ledger
from accounting.observers import RunDescription, observers
from accounting.rdp import rdp_epsilon


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """A run that somebody plans: how often it asks about a patient, and its noise or its target.

    Attributes:
        sampling_rate: q.
        rounds: T.
        delta: of the claim.
        noise_multiplier: sigma; or
        target_epsilon: what the noise is to meet. One of the two is given.
        accountant: which one the target is for.
        hospitals: K; None: nobody asks who could learn what.
        dropouts: d tolerated.
        colluders: c tolerated.
        regime: as `RunDescription`.
        exchange: as `RunDescription`.
        scheme: as `RunDescription`.

    Raises:
        AccountingError: neither or both of sigma and target are given.
    """

    sampling_rate: float
    rounds: int
    delta: float
    noise_multiplier: float | None = None
    target_epsilon: float | None = None
    accountant: str = "prv"
    hospitals: int | None = None
    dropouts: int = 0
    colluders: int = 0
    regime: str = "FSCDP"
    exchange: str = "gradients"
    scheme: str = "bfv"

    def __post_init__(self) -> None:
        if (self.noise_multiplier is None) == (self.target_epsilon is None):
            raise AccountingError("give either a noise_multiplier or a target_epsilon")

    def sigma(self) -> float:
        """Return the noise multiplier: the given one, or the least that meets the target."""
        if self.target_epsilon is None:
            assert self.noise_multiplier is not None
            return self.noise_multiplier
        return noise_multiplier_for(
            target_epsilon=self.target_epsilon,
            delta=self.delta,
            sampling_rate=self.sampling_rate,
            rounds=self.rounds,
            accountant=self.accountant,
        )


def account(planned: PlannedRun) -> dict[str, object]:
    """Epsilon of a planned run by every accountant and for every observer.

    Guarantee: as `accountants.epsilon` and `observers.observers`, for neighbours that differ by one
    patient at one hospital.

    Returns:
        "inputs", "noise_multiplier", "epsilon" (by accountant, and by classic RDP conversion),
        "observers" (rows of `ObserverRow.to_json`; none without hospitals).

    Raises:
        AccountingError: a number is out of range, or no noise meets the target.
    """
    sigma = planned.sigma()
    rounds, delta = planned.rounds, planned.delta
    events = [
        GaussianEvent(sampling_rate=planned.sampling_rate, noise_multiplier=sigma, count=rounds)
    ]
    classic = rdp_epsilon(events, delta, conversion_name="classic")
    return {
        "inputs": {name: value for name, value in asdict(planned).items() if value is not None},
        "noise_multiplier": sigma,
        "epsilon": {"rdp-classic": classic, **_by_accountant(events, delta)},
        "observers": _observer_rows(planned, sigma),
    }


def _observer_rows(planned: PlannedRun, sigma: float) -> list[dict[str, object]]:
    if planned.hospitals is None:
        return []
    run = RunDescription(
        regime=planned.regime,
        exchange=planned.exchange,
        scheme=planned.scheme,
        hospitals=planned.hospitals,
        dropouts=planned.dropouts,
        colluders=planned.colluders,
        sampling_rate=planned.sampling_rate,
        noise_multiplier=sigma,
        rounds=planned.rounds,
        delta=planned.delta,
    )
    aimed = planned.target_epsilon is not None  # without a target none binds
    return [
        replace(row, binds_target=row.binds_target and aimed).to_json() for row in observers(run)
    ]


def _by_accountant(events: Sequence[Event], delta: float) -> dict[str, float | str]:
    """Epsilon by every accountant, or why it gives none."""
    epsilons: dict[str, float | str] = {}
    for name, compute in ACCOUNTANTS.items():
        try:
            epsilons[name] = compute(events, delta)
        except AccountingError as error:
            epsilons[name] = f"none: {error}"
    return epsilons


def ledger_statement(path: str | os.PathLike[str], delta: float) -> dict[str, object]:
    """What a ledger file says was spent: when, on what, and what it adds up to.

    Guarantee: the epsilons bound everything recorded, for neighbours that differ by one patient of
    the site; "adaptive" holds even if later trainings were chosen after seeing earlier results.

    Returns:
        "site", "cohort", "delta", "entries" (JSON-ready), "trainings" (per training: first and
        last time, entries, events, epsilon by RDP), "epsilon" ("rdp", "prv" or why not,
        "adaptive"), "input_epsilon" (of one record's inputs behind all input noise drawn; 0: none).

    Raises:
        LedgerError: the file is damaged or no ledger.
    """
    from accounting.renyi_filter import RenyiFilter

    contents = read_ledger(path)
    trainings: dict[str, dict[str, object]] = {}
    for name in dict.fromkeys(entry.training for entry in contents.entries):
        own = [entry for entry in contents.entries if entry.training == name]
        events = merge([entry.event for entry in own])
        trainings[name] = {
            "entries": len(own),
            "first": own[0].time,
            "last": own[-1].time,
            "events": [to_json(event) for event in events],
            "epsilon": rdp_epsilon(events, delta),
        }
    everything = merge([entry.event for entry in contents.entries])
    return {
        "site": contents.site,
        "cohort": contents.cohort,
        "delta": delta,
        "entries": [entry.to_json() for entry in contents.entries],
        "trainings": trainings,
        "epsilon": {
            "adaptive": RenyiFilter.planned(delta).epsilon(everything),
            **_by_accountant(everything, delta),
        },
        "input_epsilon": input_epsilon(everything),
    }
