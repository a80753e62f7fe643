"""What a run writes when it ends: summary, privacy statement, model."""

from __future__ import annotations

import importlib.metadata
import platform
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from accounting.accountants import ACCOUNTANTS
from accounting.input_noise import input_noise
from accounting.observers import observers
from clients.contract.description import describe_run
from clients.contract.soundness import scheme_of
from clients.contract.terms import Terms, hospitals_expected

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from strategies.run.budget import Budget
    from strategies.run.folder import RunFolder
    from strategies.run.state import RunState

#: What a summary keeps of `merit` beside its figures.
SAID_OF_CLASSES = ("looked_for", "majority", "uneven", "one_guess", "by_class")
_VERSIONS = ("flwr", "ray", "torch", "opacus", "tenseal", "numpy")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a training came to, whatever ended it.

    Attributes:
        training: its id.
        state: rounds, model and figures so far.
        terms: what the hospitals agreed on; ``None`` where it did not come to that.
        bytes_carried: (from, to) hospitals.
        evaluation: what ``evaluation.json`` holds; empty without a model.
        split: what ``split.json`` holds; empty where the data are not public.
        input_shape: shape of one record as a hospital has it.
        unit: whom epsilons cover: a "patient", or a "record" where no patients are named.
        patients: N, training patients of the federation; public.
        holdout: whose records models are measured on, as `strategies.holdout` says.
    """

    training: str
    state: RunState
    terms: Terms | None
    bytes_carried: tuple[int, int]
    evaluation: Mapping[str, object]
    split: Mapping[str, object]
    input_shape: tuple[int, ...]
    unit: str = "patient"
    patients: int = 0
    holdout: Mapping[str, object] = field(default_factory=dict)


def write_results(
    folder: RunFolder,
    settings: Settings,
    outcome: Outcome,
    budget: Budget,
    *,
    status: str,
    seconds: float,
) -> None:
    """Write ``summary.json``, ``privacy.json``, ``model.safetensors`` and what figures need."""
    summary = _summary(settings, outcome, budget, status=status, seconds=seconds)
    folder.write_json("summary.json", summary)
    folder.write_json("privacy.json", _privacy(settings, outcome, budget))
    for name, content in (
        ("evaluation.json", outcome.evaluation),
        ("split.json", outcome.split),
    ):
        if content:
            folder.write_json(name, content)
    if outcome.state.model:
        folder.write_model(outcome.state.model, {"rounds": str(outcome.state.released)})


def _summary(
    settings: Settings, outcome: Outcome, budget: Budget, *, status: str, seconds: float
) -> dict[str, Any]:
    state = outcome.state
    private = settings.regime.private
    return {
        "scenario": settings.run.scenario,
        "status": status,
        "training": outcome.training,
        "data": settings.data.name,
        "model": settings.model.name,
        "regime": settings.privacy.regime,
        "exchange": settings.exchange.name,
        "scheme": scheme_of(settings),
        "hospitals": hospitals_expected(settings),
        "rounds": state.round,
        "left_out": state.left_out,
        "accuracy": state.metrics.get("accuracy"),
        "auc": state.metrics.get("auc"),
        **_figures(outcome),
        **_at_hospitals(outcome),
        **({"alone_accuracy": state.alone} if state.alone else {}),
        "epsilon": budget.epsilons() if private else None,
        "delta": settings.privacy.delta if private else None,
        "unit": outcome.unit,
        "patients": outcome.patients,
        "holdout": dict(outcome.holdout),
        "noise_multiplier": budget.noise_multiplier,
        "sampling_rate": settings.training.sampling_rate,
        "seed": settings.run.seed if settings.seeded else None,
        "seeded": settings.seeded,
        "uplink_bytes_per_hospital_round": _median(state.uplink_bytes),
        "downlink_bytes_per_hospital_round": _median(state.downlink_bytes),
        "uplink_bytes_total": outcome.bytes_carried[0],
        "downlink_bytes_total": outcome.bytes_carried[1],
        "seconds": {
            "total": round(seconds, 3),
            "round_median": round(statistics.median(state.round_seconds or [0.0]), 5),
        },
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS}
        | {"python": platform.python_version()},
    }


def _figures(outcome: Outcome) -> dict[str, Any]:
    """Return what the model is worth on the holdout."""
    evaluation = outcome.evaluation
    merit = cast("dict[str, Any]", evaluation.get("merit") or {})
    return {
        "metrics": {**outcome.state.metrics, **merit.get("figures", {})},
        "merit": {key: merit[key] for key in SAID_OF_CLASSES if key in merit},
        "classes": evaluation.get("classes"),
        "confusion": evaluation.get("confusion"),
        **_of_task(evaluation),
    }


def _at_hospitals(outcome: Outcome) -> dict[str, Any]:
    """Return the model's first figure at each hospital, where the data are public."""
    own = outcome.state.hospital_metrics
    mean = statistics.fmean(own.values()) if own else None
    if "task" in outcome.evaluation:
        said = {"hospital_accuracy": None, "mean_hospital_accuracy": None}
        return {**said, "hospital_headline": own or None, "mean_hospital_headline": mean}
    return {"hospital_accuracy": own or None, "mean_hospital_accuracy": mean}


def _of_task(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task and its figures, where another is learnt than one class of several."""
    if "task" not in evaluation:
        return {}
    rows = evaluation["judged"].get("rows", [])
    return {"task": evaluation["task"], "headline": evaluation["headline"], "rows": rows}


def _median(values: list[int]) -> int:
    return int(statistics.median(values)) if values else 0


def _privacy(settings: Settings, outcome: Outcome, budget: Budget) -> dict[str, Any]:
    privacy = settings.privacy
    grid = outcome.terms.grid if outcome.terms and settings.regime.private else None
    run = describe_run(
        settings, noise_multiplier=budget.noise_multiplier, spent=budget.spent, grid=grid
    )
    aimed = privacy.target_epsilon > 0  # a fixed noise multiplier promises nobody a target
    rows = [replace(row, binds_target=row.binds_target and aimed) for row in observers(run)]
    noise = input_noise(privacy.input_laplace, outcome.input_shape)
    if noise is not None:
        rows.append(noise.row(privacy.delta, tuple(ACCOUNTANTS), seeded=settings.seeded))
    return {
        "unit": outcome.unit,
        "holdout": dict(outcome.holdout),
        "neighbouring": f"add or remove one {outcome.unit} at one hospital",
        "seeded": settings.seeded,
        "delta": privacy.delta,
        "target_epsilon": privacy.target_epsilon if settings.regime.private else None,
        "noise_multiplier": budget.noise_multiplier,
        "sampling_rate": settings.training.sampling_rate,
        "rounds_spent": budget.spent,
        "grid": grid.to_json() if grid is not None else None,
        "audited": False,
        "observers": [row.to_json() for row in rows],
        "input_noise": noise.to_json(seeded=settings.seeded) if noise is not None else None,
        "ledger": budget.entries(),
    }
