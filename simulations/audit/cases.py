"""Small trainings of every exchange and regime, to be reconciled with every ledger.

Answers are lost and spoiled on the way, so that places are asked for again and rounds done again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.contract.kinds import Kind
from clients.contract.settings import Settings
from clients.contract.shares import in_shares
from clients.contract.terms import hospitals_expected
from clients.data import Cohorts
from simulations.audit.contents import content_gates, parameters_of
from simulations.audit.gates import end_gate, exact_gate
from simulations.audit.hidden import hidden_gates
from simulations.audit.key_sums import key_gates
from simulations.audit.learning import learning_gate
from simulations.audit.opened import keys_of, released_models, terms_of
from simulations.audit.opened_sums import opened_sums, opener_keys
from simulations.audit.reconciliation import reconcile
from simulations.audit.wire import Fate, Wire, watched_run
from strategies.run.reading import read_run

if TYPE_CHECKING:
    from accounting.audit_gates import Gate
    from clients.contract.settings import ConfigValue
    from clients.data import Cohort
    from simulations.audit.wire import Sent

HOSPITALS = 3


@dataclass(frozen=True, kw_only=True)
class Case:
    """A training and what becomes of some answers.

    Attributes:
        changes: settings, dotted.
        fates: (number of the hospital, round, attempt) -> what becomes of its answers there.
    """

    changes: Mapping[str, ConfigValue]
    fates: Mapping[tuple[int, int, int], Fate] = field(default_factory=dict)


def _case(
    exchange: str,
    regime: str,
    fates: Mapping[tuple[int, int, int], Fate] | None = None,
    /,
    **more: ConfigValue,
) -> Case:
    private = regime not in ("C", "F")
    changes: dict[str, ConfigValue] = {
        "exchange.name": exchange,
        "privacy.regime": regime,
        "privacy.noise-multiplier": 2.0 if private else 0.0,
        "model.name": "mlp" if exchange == "layers" else "logistic",
    }
    changes |= {key.replace("__", ".").replace("_", "-"): value for key, value in more.items()}
    return Case(changes=changes, fates=fates or {})


_LOST_THEN_DONE_AGAIN = {(1, 2, 1): Fate.LOST}
_SPOILED = {(2, 1, 1): Fate.SPOILED, (0, 3, 1): Fate.SPOILED}

CASES: Mapping[str, Case] = {
    "gradients FSCDP": _case("gradients", "FSCDP", _LOST_THEN_DONE_AGAIN),
    "gradients FSCDP, a dropout": _case("gradients", "FSCDP", _SPOILED, privacy__dropouts=1),
    "gradients FSCDP, a colluder": _case("gradients", "FSCDP", privacy__colluders=1),
    "gradients FPDP, public": _case("gradients", "FPDP", data__public=True),
    "gradients FSCDP, public keys": _case("gradients", "FSCDP", sealing__key_mode="public"),
    "gradients FSCDP, one-time": _case(
        "gradients", "FSCDP", _LOST_THEN_DONE_AGAIN, sealing__scheme="one-time"
    ),
    "gradients FSCDP, keys in shares": _case(
        "gradients",
        "FSCDP",
        {(3, 2, 1): Fate.LOST},
        sealing__scheme="one-time",
        partition__hospitals=5,
        privacy__dropouts=1,
    ),
    "gradients FPDP": _case("gradients", "FPDP", _SPOILED),
    "gradients CDP": _case("gradients", "CDP", sealing__scheme="plain"),
    "gradients F": _case("gradients", "F", _LOST_THEN_DONE_AGAIN),
    "gradients C": _case("gradients", "C", sealing__scheme="plain"),
    "weights FSCDP": _case("weights", "FSCDP", _SPOILED),
    "weights FPDP": _case("weights", "FPDP", _LOST_THEN_DONE_AGAIN, exchange__local_steps=3),
    "weights F": _case("weights", "F", exchange__local_steps=2, sealing__scheme="ckks"),
    "layers FPDP": _case("layers", "FPDP", _LOST_THEN_DONE_AGAIN),
    "layers F": _case("layers", "F"),
    "cyclic FPDP": _case("cyclic", "FPDP", {(1, 2, 1): Fate.LOST}, exchange__cycles=2),
    "cyclic F": _case("cyclic", "F", exchange__cycles=2),
    "single FPDP": _case("single", "FPDP"),
    "ensemble FPDP": _case("ensemble", "FPDP"),
}
#: Those that a quick audit runs: one of each way in which answers leave.
SAMPLE = (
    "gradients FSCDP, a dropout",
    "gradients FSCDP, public keys",
    "gradients FSCDP, one-time",
    "weights F",
    "layers FPDP",
    "single FPDP",
    "ensemble FPDP",
)


def case_settings(case: Case, out: Path) -> Settings:
    """Return the settings of a case, over the bundled benchmark."""
    return Settings.from_config(
        {
            "data.name": "breast-cancer",
            "partition.hospitals": HOSPITALS,
            "training.rounds": 4,
            "training.sampling-rate": 0.25,
            "training.release-every": 2,
            "training.momentum": 0.0,
            "training.learning-rate": 0.5,
            "privacy.l2-clip": 1.0,
            "privacy.target-epsilon": 0.0,
            "run.seed": -1,
            "run.out": str(out),
            "run.scenario": "audit",
            "tracking.wandb": "disabled",
            **case.changes,
        }
    )


def run_case(case: Case, folder: Path) -> list[Gate]:
    """Train, and reconcile what left with every ledger; a training that stops shuts a gate."""
    folder.mkdir(parents=True)
    settings = case_settings(case, folder)
    cohorts = Cohorts()
    names, info = cohorts.of(settings).names, cohorts.of(settings).info

    def on_the_way(sent: Sent) -> Fate:
        if sent.content is None or sent.kind not in (Kind.TRAIN, Kind.FORWARD, Kind.VISIT):
            return Fate.ARRIVES
        return case.fates.get((names.index(sent.hospital), *sent.place), Fate.ARRIVES)

    wire = Wire(folder, names, on_the_way)
    assert len(names) == hospitals_expected(settings)
    stopped = watched_run(settings, cohorts, wire)
    summary = read_run(folder).summary
    if "training" not in summary:
        return [end_gate(stopped or "it has not begun")]
    gates = reconcile(
        wire,
        settings,
        training=str(summary["training"]),
        noise_multiplier=float(summary["noise_multiplier"]),
    )
    keys = None if stopped else keys_of(folder, str(summary["training"]))
    if keys is not None and settings.sealing.scheme == "one-time" and not in_shares(settings):
        gates += key_gates(wire, keys)
    gates += content_gates(wire, settings, info, keys)
    try:
        gates += _sealed_gates(wire, settings, cohorts.of(settings), summary, stopped)
    except Exception as error:  # whatever cannot be read is not what a hospital sends
        unread = [f"{type(error).__name__}: {error}"]
        gates.append(exact_gate("what is sealed can be read", unread))
    return [end_gate(stopped), *gates]


def _sealed_gates(
    wire: Wire, settings: Settings, cohort: Cohort, summary: Mapping[str, Any], stopped: str
) -> list[Gate]:
    """Return the gates of what is sealed: who can read it, and what models are made of.

    These are what opened sums make of zeros, with which the model begins. The canaries' model has
    no tensor of as many values as there are classes; this one has a bias, so that a start that
    hangs on the records shows.
    """
    largest = max(cohort.patients_by_hospital.values())
    sizes = {"data.patients": cohort.patients, "data.largest-hospital": largest}
    public, training = settings.with_config(sizes), str(summary["training"])
    sigma = float(summary["noise_multiplier"])
    terms = terms_of(public, cohort.info, training=training, sigma=sigma)
    gates = hidden_gates(wire, settings, terms, stopped)
    if stopped or settings.exchange.name != "gradients":
        return gates
    opened = opened_sums(wire, terms, opener_keys(wire.out, training))
    sums = {one.round: one.vector for one in opened}
    names = parameters_of(settings, cohort.info)
    return [*gates, learning_gate(released_models(wire), sums, public, names)]
