"""Whether a hospital's own limit holds over trainings: ledgers against what `site.toml` allows.

Two trainings ask hospitals with a file of their own, one after the other, in processes that share
nothing but the hospitals' folders. The first costs less than their limits allow, both together
cost more. What the ledgers then hold is composed here once more.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from accounting.accountants import epsilon
from accounting.events import GaussianEvent
from clients.contract.settings import Settings
from clients.data import Cohorts
from simulations.audit.cases import CASES, case_settings
from simulations.audit.gates import end_gate, exact_gate
from simulations.audit.ledgers import read_book
from simulations.audit.reconciliation import faced
from simulations.audit.wire import Wire, watched_run
from strategies.run.reading import read_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from accounting.audit_gates import Gate
    from clients.contract.settings import ConfigValue

#: What the audit calls them.
LIMITS = "limits over two trainings"
#: What a limit allows, in what a training costs: more than one, with room for what a bound that
#: holds whatever comes later counts beyond it, and less than two, which cost 1.4.
_ROOM = 1.25
_DELTA = 1e-4
_NO_SPARE: Mapping[str, ConfigValue] = {"privacy.spare-attempts": 0}


def limit_gates(folder: Path) -> list[Gate]:
    """Train twice at hospitals with limits, and hold their ledgers against these.

    Args:
        folder: empty.
    """
    cohorts, trainings = Cohorts(), []
    sites: Mapping[str, Path] = {}
    for number in (1, 2):
        out = folder / f"run-{number}"
        out.mkdir(parents=True)
        # A hospital's limit counts spare attempts as if they were made.
        settings = case_settings(CASES["gradients FSCDP"], out).with_config(_NO_SPARE)
        cost = _cost(settings, settings.training.rounds)
        sites = sites or _sites(folder, cohorts.of(settings).names, settings, cost * _ROOM)
        wire = Wire(out, tuple(sites))
        stopped = watched_run(settings, cohorts, wire, tuple(sites.values()))
        if number == 1:
            gates = [end_gate(stopped)]
        trainings.append(str(read_run(out).summary["training"]))
    spent = {
        name: [
            sum(int(one.event["count"]) for one in read_book(_ledger(site), training).paid)
            for training in trainings
        ]
        for name, site in sites.items()
    }
    return [*gates, *_held(settings, spent, cost * _ROOM)]


def _held(settings: Settings, spent: Mapping[str, Sequence[int]], limit: float) -> list[Gate]:
    """Return whether no ledger has more than the limit.

    Args:
        settings: of each training.
        spent: noised sums that each hospital's ledger has, by training.
        limit: epsilon.
    """
    over = []
    for name, counts in spent.items():
        total = _cost(settings, sum(counts))
        if total > limit:
            over.append(f"{name} spent {total:.4g} in all, its limit is {limit:.4g}")
    missing = [name for name, counts in spent.items() if counts[0] < settings.training.rounds]
    return [
        exact_gate("all trainings together stay within a hospital's limit", over),
        exact_gate("ledgers have what a training within the limit cost", missing),
    ]


def _cost(settings: Settings, count: int) -> float:
    """Epsilon of so many noised sums, as any one other hospital sees them."""
    noise = faced(settings, settings.privacy.noise_multiplier)["hospital"]
    assert noise is not None
    rate = settings.training.sampling_rate
    event = GaussianEvent(sampling_rate=rate, noise_multiplier=noise, count=count)
    return epsilon([event], _DELTA, "prv")


def _sites(
    folder: Path, names: Sequence[str], settings: Settings, limit: float
) -> Mapping[str, Path]:
    """Write a file for each hospital, with its part of the bundled benchmark and its limit."""
    found = {}
    for number, name in enumerate(names):
        own = folder / "sites" / name
        own.mkdir(parents=True, mode=0o700)
        found[name] = own / "site.toml"
        found[name].write_text(
            f'hospital = "{name}"\nany-app = true\ntrust-on-first-use = true\n'
            f'[data]\nname = "{settings.data.name}"\nsimulated-partition = {number}\n'
            f"[limits]\nmax-epsilon = {limit!r}\ndelta = {_DELTA!r}\n",
            encoding="utf-8",
        )
    return found


def _ledger(site: Path) -> Path:
    return site.parent / "private" / "ledger.jsonl"
