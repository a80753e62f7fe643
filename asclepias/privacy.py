"""What privacy costs, who could learn what, and an attack on what a run claims.

>>> cost = {"sampling_rate": 0.1, "rounds": 50, "delta": 1e-4, "accountant": "rdp"}
>>> sigma = calibrate(target_epsilon=2.0, **cost)
>>> round(sigma, 1), round(epsilon(noise_multiplier=sigma, **cost), 2)
(1.7, 2.0)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from accounting.accountants import epsilon as _epsilon
from accounting.calibration import noise_multiplier_for
from accounting.events import GaussianEvent
from accounting.observers import ObserverRow
from accounting.observers import observers as _observers
from accounting.runs import RunDescription

if TYPE_CHECKING:
    from strategies.run.audited import Audited


def epsilon(
    *,
    noise_multiplier: float,
    sampling_rate: float,
    rounds: int,
    delta: float,
    accountant: str = "prv",
) -> float:
    """Return the epsilon of rounds of a subsampled Gaussian mechanism, composed.

    Guarantee: an upper bound, for neighbours that differ by one patient at one hospital, where
    patients are drawn independently of each other (Poisson).

    Args:
        noise_multiplier: sigma, noise of what the observer sees in units of the clip.
        sampling_rate: q.
        rounds: T.
        delta: of the claim.
        accountant: "prv" (tight) or "rdp".

    Raises:
        AccountingError: a number is out of range.
    """
    event = GaussianEvent(
        sampling_rate=sampling_rate, noise_multiplier=noise_multiplier, count=rounds
    )
    return _epsilon([event], delta, accountant)


def calibrate(
    *,
    target_epsilon: float,
    delta: float,
    sampling_rate: float,
    rounds: int,
    accountant: str = "prv",
) -> float:
    """Return the least noise multiplier that keeps rounds within a target; as `epsilon` counts.

    A thousandth of epsilon and a hundredth of delta are kept back for rounding.

    Raises:
        AccountingError: no noise meets the target, or a number is out of range.
    """
    return noise_multiplier_for(
        target_epsilon=target_epsilon,
        delta=delta,
        sampling_rate=sampling_rate,
        rounds=rounds,
        accountant=accountant,
    )


def observers(
    *,
    regime: str,
    hospitals: int,
    sampling_rate: float,
    noise_multiplier: float,
    rounds: int,
    delta: float,
    scheme: str = "bfv",
    colluders: int = 0,
) -> list[ObserverRow]:
    """Return who could learn what of a training: server, public, hospitals, and those together.

        >>> rows = observers(regime="FSCDP", hospitals=10, sampling_rate=0.1,
        ...                  noise_multiplier=1.6, rounds=50, delta=1e-4)
        >>> rows[0].observer, round(rows[0].epsilon["prv"], 1)
        ('server', 1.9)

    Args:
        regime: "C", "CDP", "F", "FPDP" or "FSCDP".
        hospitals: K.
        sampling_rate: q.
        noise_multiplier: sigma.
        rounds: T.
        delta: of the claims.
        scheme: how sums are sealed.
        colluders: hospitals that the noise is planned against.

    Raises:
        AccountingError: the combination is not sound, or a number is out of range.
    """
    return _observers(
        RunDescription(
            regime=regime,
            hospitals=hospitals,
            sampling_rate=sampling_rate,
            noise_multiplier=noise_multiplier,
            rounds=rounds,
            delta=delta,
            scheme=scheme,
            colluders=colluders,
        )
    )


@dataclass(frozen=True, kw_only=True)
class Audit:
    """An attack with made-up patients on what a run claims.

    Example::

        Audit(folder=strategy.folder).carry_out()

    Attributes:
        folder: of a run that has ended.
    """

    folder: Path

    def carry_out(self, progress: Callable[[str, int, int], None] | None = None) -> Audited:
        """Attack the run's claims, add what was found to its files, and return it.

        Canaries are sampled, clipped, noised, sealed and opened by the functions that hospitals
        call, on the run's own terms; no patient's record is touched.

        Args:
            progress: told (what is done, so many rounds, of so many).

        Raises:
            AuditFailed: something was found that cannot be chance.
            NoRun: the folder holds no run that has ended.
        """
        from simulations.run_audit import attack
        from strategies.run.audited import add_audit, run_to_audit

        settings, run = run_to_audit(self.folder)
        found = attack(settings, run, progress or (lambda stage, done, total: None))
        add_audit(self.folder, found)
        return found
