"""What an audit found: a lower bound beside every claim, gates, and whether all of it holds.

    findings = [weigh(sight, rows, scores, coins, error=error) for ...]
    audit = Audit(findings=..., gates=..., error=error)
    audit.failures      # empty: nothing speaks against the claims

Bounds are shown at 95%: one honest run in twenty has one above its claim. A run fails at a far
smaller chance, `TOTAL_ERROR` over all that an audit looks at, and by tests that are exact there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from accounting.audit_bounds import (
    ERROR,
    Bound,
    family_bound,
    noise_of_claim,
    one_run_bound,
    plan_guesses,
    threshold_bound,
)
from accounting.audit_evidence import refutes
from accounting.audit_gates import Gate
from accounting.audit_scores import Coins, Sampled, Values, threshold_of
from accounting.audit_sights import Sight
from accounting.errors import AuditFailed
from accounting.observers import ObserverRow

#: The chance that an audit fails a run with which nothing is wrong.
TOTAL_ERROR = 1e-6
#: Tests of every finding.
TESTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found of one sight.

    Attributes:
        observers: who has it.
        claim: the smallest epsilon that is claimed against them.
        delta: of the claim.
        canaries: that the bounds are from.
        bounds: at 95%; the first is the one that is shown.
        refuted_by: names of the bounds by which the claim is refuted at the error at which a run
            fails, where what they assume is so.
    """

    observers: tuple[str, ...]
    claim: float
    delta: float
    canaries: int
    bounds: tuple[Bound, ...]
    refuted_by: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Everything, JSON-ready."""
        return {
            "observers": list(self.observers),
            "claim": self.claim,
            "delta": self.delta,
            "canaries": self.canaries,
            "bounds": [bound.to_json() for bound in self.bounds],
            "refuted_by": list(self.refuted_by),
        }


def weigh(
    sight: Sight,
    rows: Sequence[ObserverRow],
    scores: Values,
    coins: Coins,
    *,
    noise: float,
    error: float,
) -> Finding:
    """Bound epsilon of a sight, and hold the claim against it.

    Args:
        sight: what was seen.
        rows: of the observers who have it; their claims are the same.
        scores: of the canaries, by `accounting.audit_scores` of the sight's event, float64 [m].
        coins: who took part, bool [m].
        noise: that is in what was seen, rounding included, in units of the clip.
        error: at which a test that refutes the claim fails the run, each by itself.
    """
    event, delta = sight.event, rows[0].delta
    claim = min(min(row.epsilon.values()) for row in rows if row.epsilon)
    shown = _attacks(event, scores, coins, delta=delta, error=ERROR)
    far = _attacks(event, scores, coins, delta=delta, error=error)
    # An honest run has `noise`, which may be more than a claim needs: then both must be out of
    # question. A claim that needs more than `noise` is held to what it needs.
    needed = noise_of_claim(replace(event, noise_multiplier=sight.claimed_noise), claim, delta)
    refuted = {
        "family": all(
            refutes(scores, coins, event, noise=one, error=error)
            for one in {needed, max(needed, noise)}
        ),
        # Samples make of a Gaussian mechanism another one, of which its bound may be untrue.
        "gaussian": event.sampling_rate == 1.0 and far[0].value > claim,
        "one run": far[1].value > claim,
    }
    return Finding(
        observers=tuple(row.observer for row in rows),
        claim=claim,
        delta=delta,
        canaries=len(coins),
        bounds=(family_bound(scores, coins, event, delta=delta), *shown),
        refuted_by=tuple(name for name, found in refuted.items() if found),
    )


def _attacks(
    event: Sampled, scores: Values, coins: Coins, *, delta: float, error: float
) -> tuple[Bound, Bound]:
    """The bounds that guess: by one threshold, and in one run."""
    plan = plan_guesses(event, len(coins), delta)
    few = slice(plan.canaries)
    return (
        threshold_bound(scores, coins, threshold=threshold_of(event), delta=delta, error=error),
        one_run_bound(scores[few], coins[few], guesses=plan.guesses, delta=delta, error=error),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """All that one audit found.

    Attributes:
        findings: of every sight.
        gates: all.
        error: of each test and gate, so that all together are wrong with `TOTAL_ERROR`.
    """

    findings: tuple[Finding, ...]
    gates: tuple[Gate, ...]
    error: float

    @property
    def failures(self) -> list[str]:
        """A sentence for each thing that cannot be chance; empty where nothing speaks against."""
        found = [
            f"{', '.join(one.observers)}: the bound '{name}' refutes the claim, epsilon "
            f"{one.claim:.4g} at delta {one.delta:g}"
            for one in self.findings
            for name in one.refuted_by
        ]
        found += [
            f"{gate.name} ({gate.subject}): found {gate.found:.6g}, expected {gate.expected:.6g}, "
            f"which has a chance of {gate.chance:.2g}"
            for gate in self.gates
            if not gate.open(self.error)
        ]
        return found

    def require(self) -> None:
        """Insist on it.

        Raises:
            AuditFailed: something was found that cannot be chance.
        """
        if found := self.failures:
            count = f"{len(found)} finding{'s' * (len(found) > 1)}"
            raise AuditFailed(f"The audit failed: {count} that cannot be chance. {found[0]}")

    @property
    def passed(self) -> bool:
        """Whether nothing was found that speaks against the claims."""
        return not self.failures

    def to_json(self) -> dict[str, object]:
        """Everything, JSON-ready."""
        return {
            "passed": self.passed,
            "failures": self.failures,
            "total_error": TOTAL_ERROR,
            "error": self.error,
            "findings": [finding.to_json() for finding in self.findings],
            "gates": [gate.to_json() for gate in self.gates],
        }
