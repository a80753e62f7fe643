"""What accounting costs: the running epsilon of every round, and a ledger entry before every round.

Opacus' RDP accountant, asked for epsilon after each round, runs interleaved with ours in the same
process; it recomputes its orders each time, so it is measured on few rounds.

    python benchmarks/accounting_cost.py [--json FILE] [--repeats 5]
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from accounting.accountants import epsilon
from accounting.ledger import Ledger
from accounting.noise import NoisePlan, make_noise_plan

SAMPLING_RATE, DELTA = 100 / 2930, 1e-4
ROUNDS = (100, 1_000, 10_000, 100_000)
PRV_ROUNDS = (31, 3_001, 100_000)
LEDGER_ROUNDS = 1_000


def _timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _running(plan: NoisePlan, rounds: int) -> None:
    """Epsilon after each of the rounds."""
    for done in range(1, rounds + 1):
        epsilon([plan.event(SAMPLING_RATE, done)], DELTA)


def _running_opacus(rounds: int) -> None:
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    for _ in range(rounds):
        accountant.step(noise_multiplier=1.15, sample_rate=SAMPLING_RATE)
        accountant.get_epsilon(DELTA)


def _spending(plan: NoisePlan, durable: bool) -> None:
    event = plan.event(SAMPLING_RATE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        with Ledger(path, site="north", cohort="lungs", durable=durable) as ledger:
            for done in range(1, LEDGER_ROUNDS + 1):
                ledger.spend(event, training="t", round=done, attempt=1, purpose="gradient")


def _measure(repeats: int) -> list[dict[str, float | str]]:
    plan = make_noise_plan("semi-central", noise_multiplier=1.15, hospitals=10)
    _running(plan, 1)
    _running_opacus(1)
    jobs: list[tuple[str, int, Callable[[], object]]] = [
        (f"running epsilon (rdp), {rounds:,} rounds", rounds, lambda n=rounds: _running(plan, n))
        for rounds in ROUNDS
    ]
    jobs.append(("running epsilon, Opacus' RDPAccountant", 20, lambda: _running_opacus(20)))
    jobs += [
        ("ledger entry, flushed to disk", LEDGER_ROUNDS, lambda: _spending(plan, True)),
        ("ledger entry, not flushed", LEDGER_ROUNDS, lambda: _spending(plan, False)),
    ]
    times: dict[str, list[float]] = {name: [] for name, _, _ in jobs}
    for _ in range(repeats):
        for name, _, job in jobs:
            times[name].append(_timed(job))
    rows: list[dict[str, float | str]] = [
        {"what": name, "seconds": median(times[name]), "us_a_round": median(times[name]) / n * 1e6}
        for name, n, _ in jobs
    ]
    for rounds in PRV_ROUNDS:
        event = plan.event(SAMPLING_RATE, rounds)
        # Once each: the result is remembered, so that a second call costs nothing.
        took = _timed(lambda e=event: epsilon([e], DELTA, "prv"))
        rows.append({"what": f"one epsilon (prv) at {rounds:,} rounds", "seconds": took})
    return rows


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="Optimal order")
    rows = _measure(options.repeats)
    print(f"{'':48}{'seconds':>10}{'us/round':>12}")
    for row in rows:
        each = f"{row['us_a_round']:12.1f}" if "us_a_round" in row else ""
        print(f"{row['what']:48}{row['seconds']:10.4f}{each}")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    _main()
