"""`SecureFedAvg`: a Flower strategy whose server opens nothing but noised sums.

    strategy = SecureFedAvg(patients=9000, target_epsilon=1.0)
    result = strategy.start(grid=grid, initial_arrays=arrays, num_rounds=20)

Settings travel with its messages, so the hospitals' side is one line (`asclepias.private_client`).
What it leads is a training as every other here, round by round: ceremony, floor of answers,
attempts that are paid for before they are made, confirmation by a quorum, ledger, audit.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result, Strategy

from accounting.observers import ObserverRow, observers
from asclepias.arrays import to_arrays, to_frame, to_tensors
from asclepias.passing import AppGrid
from asclepias.told import digest_of
from asclepias.wrapped import told_to_loops, wrapped_settings
from clients.contract.description import describe_run
from clients.contract.model_settings import OWN
from clients.contract.schedule import schedule_of
from clients.contract.settings import ConfigValue, Settings
from clients.models.own_model import TensorModel
from crypto.whole_file import write_shared
from strategies.announced import Announced, Judge
from strategies.one_object_grid import OneObjectGrid
from strategies.run.budget import calibrated_multiplier
from strategies.run.folder import RunFolder
from strategies.server_app import lead_training

if TYPE_CHECKING:
    import torch

    from strategies.run.summary import Outcome

    Evaluate = Callable[[int, ArrayRecord], MetricRecord | None]

#: Flower's own logger: what is said here stands among what Flower says of a run.
logger = logging.getLogger("flwr")

_INITIAL = "initial.safetensors"
_POLL_SECONDS = 0.25
#: What no app decides.
_FIXED: dict[str, ConfigValue] = {
    "data.name": OWN,
    "data.holdout-from": "none",
    "model.name": OWN,
    "run.scenario": "app",
    "tracking.wandb": "disabled",
}
_LEADS = (
    "SecureFedAvg leads its rounds itself, since keys, attempts and opened sums tie them together: "
    "call strategy.start(grid=..., initial_arrays=..., num_rounds=...)"
)


class SecureFedAvg(Strategy):
    """Federated averaging of what the server cannot read, with a per-patient guarantee.

    Formal guarantee: over all rounds, what an observer sees of the hospitals' answers is
    (epsilon, delta)-private for neighbours that differ by one patient at one hospital, with the
    epsilon of its row in `observers`; ``target_epsilon`` binds the server and the public. It holds
    where hospitals answer by `asclepias.private_client`, which computes and clips the gradients.
    Without ``target_epsilon`` and ``noise_multiplier`` (regime F), and with ``own_training``, sums
    are sealed and nothing is claimed.

    The wrapped strategy's server step (FedAdam's moments, for example) is taken on the opened sum
    at the hospitals, alike at all of them: it is post-processing and costs nothing. The server
    learns the models that hospitals release. Hospitals evaluate nothing, since their figures would
    be releases: pass ``evaluate_fn``, which is called with released models on public records.

    Args:
        strategy: Flower's FedAvg (the default), FedProx, FedAdagrad, FedAdam or FedYogi.
        patients: N, training patients of all hospitals together: a public number.
        hospitals: K; 0 for all nodes that are connected, ``min_available_nodes`` at least.
        largest_hospital: the most patients of one hospital, public; 0 for ``patients``.
        covers: whom an epsilon covers: a "patient", or a "record" where no patients are named. The
            hospitals refuse a training that says more than their records do.
        regime: "FSCDP": hospitals add shares of the noise, and the sum has all of it; "FPDP": each
            adds all of it; "F": no noise. "": FSCDP where an epsilon or noise is asked for, else F.
        target_epsilon: to stay within.
        noise_multiplier: sigma, in units of ``l2_clip``, in the place of a target.
        delta: None: 1e-4, or a tenth of 1/N where that is less.
        l2_clip: C, bound on a patient's gradient.
        sampling_rate: chance of each patient in each round, q.
        learning_rate: the hospitals'; the sum is divided by q*N.
        local_steps: at a hospital in each round; more than one in regimes FPDP and F alone.
        dropouts: hospitals that may be missing in a round.
        colluders: hospitals that may pool what they know.
        scheme: how sums are sealed: "one-time" (nobody holds a key that opens single updates),
            "bfv", or "plain" (not at all).
        release_every: rounds between the models that hospitals release; each costs bytes alone. The
            one before the last is not asked for, since the last follows it at once; of a noise-free
            training only the last one leaves.
        own_training: the app trains in its own way behind `asclepias.hospital_mod`.
        largest_change: with it, the most that training changes a weight in a round.
        seed: -1: none. A seeded run is repeatable and has no guarantee; real hospitals refuse it.
        audit: whether the claims are attacked with made-up patients when the training has ended.
        folder: the run's; "" for a new one in ``runs/``. One of a run that was stopped goes on.

    Attributes:
        folder: the run's, once it has begun.
        sum_rounding: the most that rounding to the grid changed a value of an opened sum, in units
            of the sum; 0 before the run.

    Raises:
        SettingsError: from `start`: settings that are not sound together, all faults at once.
        TypeError: a strategy that starts from single updates.
        ValueError: an option that would have no effect.
    """

    def __init__(
        self,
        strategy: FedAvg | None = None,
        *,
        patients: int,
        hospitals: int = 0,
        largest_hospital: int = 0,
        covers: Literal["patient", "record"] = "patient",
        regime: Literal["", "FSCDP", "FPDP", "F"] = "",
        target_epsilon: float = 0.0,
        noise_multiplier: float = 0.0,
        delta: float | None = None,
        l2_clip: float = 1.0,
        sampling_rate: float = 0.1,
        learning_rate: float = 0.1,
        local_steps: int = 1,
        dropouts: int = 0,
        colluders: int = 0,
        scheme: Literal["one-time", "bfv", "plain"] = "one-time",
        release_every: int = 1,
        own_training: bool = False,
        largest_change: float = 1.0,
        seed: int = -1,
        audit: bool = True,
        folder: str | Path = "",
    ) -> None:
        self.strategy = FedAvg() if strategy is None else strategy
        self.covers = covers
        self.folder = Path(folder) if folder else None
        self.sum_rounding = 0.0
        self._hospitals = hospitals
        self._own_training = own_training
        self._config: dict[str, ConfigValue] = {
            **_FIXED,
            **wrapped_settings(self.strategy, learning_rate, local_steps, own_training),
            "data.patients": patients,
            "data.largest-hospital": largest_hospital or patients,
            "training.sampling-rate": 1.0 if own_training else float(sampling_rate),
            "training.release-every": release_every,
            "privacy.regime": regime or ("FSCDP" if target_epsilon or noise_multiplier else "F"),
            "privacy.target-epsilon": float(target_epsilon),
            "privacy.noise-multiplier": float(noise_multiplier),
            "privacy.delta": min(1e-4, 0.1 / max(patients, 1)) if delta is None else delta,
            "privacy.l2-clip": float(largest_change if own_training else l2_clip),
            "privacy.dropouts": dropouts,
            "privacy.colluders": colluders,
            "sealing.scheme": scheme,
            "audit.enabled": audit,
            "run.seed": seed,
        }

    def settings(self, num_rounds: int, *, hospitals: int = 0) -> Settings:
        """Return what a training of so many rounds is told.

        Raises:
            SettingsError: it is not sound; every fault is named.
        """
        count = hospitals or self._hospitals or self.strategy.min_available_nodes
        changes: dict[str, ConfigValue] = {
            "training.rounds": num_rounds,
            "partition.hospitals": count,
        }
        return Settings.from_config({**self._config, **changes})

    def observers(self, num_rounds: int) -> list[ObserverRow]:
        """Return who could learn what of a training of so many rounds, each with an epsilon.

        Before it is run: what rounding to the planned grid adds, a thousandth at the most, is not
        in it. After a run `privacy.json` in its folder has the very table.

        Raises:
            ValueError: ``hospitals`` was left open, and what one knows of the others depends on it.
        """
        if not self._hospitals:
            raise ValueError("say how many hospitals there will be: SecureFedAvg(hospitals=...)")
        settings = self.settings(num_rounds)
        sigma = calibrated_multiplier(settings) if settings.regime.private else 0.0
        events = schedule_of(settings).events if settings.regime.private else 0
        return observers(describe_run(settings, noise_multiplier=sigma, spent=events, grid=None))

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Evaluate | None = None,
    ) -> Result:
        """Lead a training to its end.

        Args:
            grid: Flower's way to the nodes.
            initial_arrays: the model's parameters, float32: ``ArrayRecord(model.state_dict())`` of
                a model without buffers.
            num_rounds: T.
            timeout: seconds to wait for a hospital's reply.
            train_config: what an app's own training is told (``own_training``).
            evaluate_config: must be left out: hospitals evaluate nothing.
            evaluate_fn: measures released models, at the server, on public records; also the first.

        Returns:
            The last released model; for each round its contributions and the epsilon so far (by
            RDP); and what ``evaluate_fn`` said of each released model, by its rounds.

        Raises:
            SettingsError: the settings are not sound together.
            ValueError: arrays that are not float32, or a config that nobody would read.
            TrainingStopped: too few hospitals answered; which ones, and with which codes.
            AuditFailed: what was promised does not hold against an attack.
        """
        self._check_configs(train_config, evaluate_config)
        first, result = to_tensors(initial_arrays), Result()
        settings = self.settings(num_rounds, hospitals=self._connected(grid, timeout))
        folder, initial = self._begun(settings, to_frame(first))
        settings = _of_run(settings, folder, initial, timeout)
        self.summary()
        judge = partial(_judge, evaluate_fn, result, first)
        judge(0, first)
        told = told_to_loops(self.strategy) if self._own_training else {}
        way = AppGrid(grid, settings.to_config(), initial, {**told, **(train_config or {})})
        _, outcome = lead_training(
            OneObjectGrid(way),
            settings,
            open_holdout=lambda _: self._announced(settings, first, judge),
            audit=_audit() if settings.regime.private else None,
        )
        self._fill(result, outcome, first, folder)
        return result

    def summary(self) -> None:
        """Log what is asked of the hospitals."""
        logger.info("SecureFedAvg around %s:", type(self.strategy).__name__)
        asked = ("target-epsilon", "noise-multiplier")
        promised = [key for key in asked if self._config[f"privacy.{key}"]]
        for key in ("regime", *promised, *(("delta", "l2-clip") if promised else ())):
            logger.info("\tprivacy.%s = %s", key, self._config[f"privacy.{key}"])
        if self._own_training:
            logger.info("\tan app's own training: sums are sealed, no epsilon is claimed")

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Not for single rounds: raises RuntimeError."""
        raise RuntimeError(_LEADS)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Not for single rounds: raises RuntimeError."""
        raise RuntimeError(_LEADS)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Hospitals evaluate nothing: raises RuntimeError."""
        raise RuntimeError(_LEADS)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Hospitals evaluate nothing: raises RuntimeError."""
        raise RuntimeError(_LEADS)

    def _check_configs(self, train: ConfigRecord | None, evaluate: ConfigRecord | None) -> None:
        """Refuse what nobody would read."""
        if evaluate:
            raise ValueError("evaluate_config: hospitals evaluate nothing; use evaluate_fn")
        if train and not self._own_training:
            raise ValueError(
                "train_config has no effect: how private_client trains is told to SecureFedAvg "
                "(learning_rate, local_steps, ...)"
            )

    def _announced(
        self, settings: Settings, first: Mapping[str, torch.Tensor], judge: Judge
    ) -> Announced:
        """Return what the server knows of the hospitals' records."""
        # Hospitals that train in their own way know names alone, which have one order.
        named = dict(sorted(first.items())) if self._own_training else first
        return Announced(
            module=TensorModel(named),
            patients=settings.data.patients,
            largest_hospital=settings.data.largest_hospital,
            unit=self.covers,
            judge=judge,
        )

    def _connected(self, grid: Grid, timeout: float) -> int:
        """Wait until as many nodes are there as are needed, and return how many take part."""
        needed, end = (
            self._hospitals or self.strategy.min_available_nodes,
            time.monotonic() + timeout,
        )
        told = -1
        while (found := len(list(grid.get_node_ids()))) < needed and time.monotonic() < end:
            if found != told:
                told, seconds = found, end - time.monotonic()
                logger.info(
                    "%d of %d hospitals connected; waiting for %.0f s", found, needed, seconds
                )
            time.sleep(_POLL_SECONDS)
        return self._hospitals or max(found, needed)

    def _begun(self, settings: Settings, initial: bytes) -> tuple[Path, bytes]:
        """Open the run's folder; one that goes on begins with the tensors that it began with."""
        if self.folder is not None:
            settings = settings.with_config({"run.out": str(self.folder.absolute())})
        folder = RunFolder.open(settings).path.absolute()
        self.folder, file = folder, folder / _INITIAL
        if file.exists():
            logger.info("%s goes on; it began with its own tensors, not with those given", folder)
            return folder, file.read_bytes()
        write_shared(file, initial)
        return folder, initial

    def _fill(
        self,
        result: Result,
        outcome: Outcome,
        first: Mapping[str, torch.Tensor],
        folder: Path,
    ) -> None:
        """Put into Flower's result what the training came to."""
        result.arrays = to_arrays(outcome.state.model, first)
        if outcome.terms is not None:
            self.sum_rounding = outcome.terms.hospitals * outcome.terms.grid.step / 2.0
        with (folder / "metrics.jsonl").open(encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        for line in lines:
            if line["kind"] == "round" and line["closed"]:
                figures: dict[str, int | float] = {"contributions": int(line["contributions"])}
                if line.get("epsilon_rdp"):
                    figures["epsilon"] = float(line["epsilon_rdp"])
                result.train_metrics_clientapp[line["round"]] = MetricRecord(dict(figures))
        for row in json.loads((folder / "privacy.json").read_bytes())["observers"]:
            logger.info("%s: %s", row["observer"], row["epsilon"] or "no guarantee")
        logger.info("%s has the ledger, the table of observers and the audit", folder)


def _audit() -> Callable[..., None]:
    from simulations.run_audit import audit_run

    return audit_run


def _judge(
    evaluate: Evaluate | None,
    result: Result,
    like: Mapping[str, torch.Tensor],
    rounds: int,
    tensors: Mapping[str, torch.Tensor],
) -> dict[str, float]:
    """Let the app measure a released model, keep what it says, and return its figures."""
    found = evaluate(rounds, to_arrays(tensors, like)) if evaluate is not None else None
    if found is None:
        return {}
    logger.info("round %d: %s", rounds, found)
    result.evaluate_metrics_serverapp[rounds] = found
    return {name: float(one) for name, one in found.items() if isinstance(one, int | float)}


def _of_run(settings: Settings, folder: Path, initial: bytes, timeout: float) -> Settings:
    """Return the settings with what is known once a run has its folder."""
    found: dict[str, ConfigValue] = {
        "model.weights-digest": digest_of(initial),
        "run.out": str(folder),
        "run.timeout": float(timeout),
    }
    return settings.with_config(found)
