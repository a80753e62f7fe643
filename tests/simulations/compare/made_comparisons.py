"""Comparisons made of numbers, for what is drawn and written of them."""

from __future__ import annotations

import math

from simulations.compare.axes import Setup
from simulations.compare.rows import Row, paired_rows


def seen(epsilon):
    """Who could learn what in a seeded training."""
    factors = {
        "server": 1.0,
        "public after release": 1.0,
        "any one other hospital": 1.1,
        "server + all other hospitals": 1.0,
        "server, of a patient in 2 hospitals": 2.0,
        "server + one key holder": 5.0,
    }
    return [
        {
            "observer": name,
            "epsilon": {"rdp": 1.2 * factor * epsilon, "prv": factor * epsilon},
            "binds_target": name == "server",
            "guaranteed": False,
        }
        for name, factor in factors.items()
        if epsilon
    ]


def row(regime, accuracy, *, seeds=(0, 1, 2), epsilon=None, exchange="gradients", split="iid"):
    pooled = regime in ("C", "CDP")
    setup = Setup(
        regime=regime,
        exchange=None if pooled else exchange,
        partition=None if pooled else split,
        epsilon=epsilon,
        hospitals=None if pooled else 10,
        changes={},
    )
    return Row(
        setup=setup,
        choice={"training.learning-rate": 1.0},
        seeds=list(seeds),
        accuracy=list(accuracy),
        auc=[math.nan] * len(seeds),
        hospital_accuracy=[[value, value - 0.1] for value in accuracy],
        sent_bytes=[1.5e5 + len(regime) * 1e5] * len(seeds),
        received_bytes=[3e5] * len(seeds),
        epsilon=epsilon,
        noise_multiplier=2.5 if epsilon else 0.0,
        seconds=[1.0] * len(seeds),
        observers=seen(epsilon),
        ledger_entries=9 if epsilon else 0,
        cells=[f"{regime}-{seed}" for seed in seeds],
    )


OWN = {"regime": "FSCDP", "exchange": "gradients"}


def comparison(rows, name="made", **changes):
    return {
        "format": 1,
        "name": name,
        "title": "A made comparison",
        "description": "Of nothing.",
        "command": "flower-simulation compare made",
        "date": "2026-11-21",
        "data": "breast-cancer",
        "model": "logistic",
        "rounds": 3,
        "delta": 1e-4,
        "seeds": 3,
        "tuned": {"training.learning-rate": [0.3, 1.0]},
        "tuning_seeds": 2,
        "reference": OWN,
        "rows": [one.to_json() for one in rows],
        "versions": {"flwr": "1.41.0", "python": "3.11.7"},
        "paired": paired_rows(rows, OWN),
        "unasked": {},
        "skipped": [{"why": "it is <not> sound.", "setups": ["FSCDP, single"]}],
        "failed": [],
        **changes,
    }


def made_content():
    """Every regime but F, at two epsilons and on two splits."""
    rows = [
        row("C", [0.97, 0.96, 0.98]),
        *(row("CDP", [0.95, 0.93, 0.94], epsilon=e) for e in (0.5, 1.0)),
        *(row("FPDP", [0.80, 0.83, 0.81], epsilon=e, split=s)
          for e in (0.5, 1.0) for s in ("iid", "dirichlet:0.1")),
        *(row("FSCDP", [0.94, 0.93, 0.93], epsilon=e, split=s)
          for e in (0.5, 1.0) for s in ("iid", "dirichlet:0.1")),
    ]  # fmt: skip
    return comparison(rows)
