"""The server's Flower app: reads the settings once, leads a training, writes its results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from math import sqrt
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from accounting.errors import AuditFailed
from clients.contract.settings import Settings
from clients.contract.soundness import scheme_of
from clients.contract.stages import Listener, listening
from clients.contract.terms import hospitals_expected
from strategies.agreement import agree
from strategies.conversation import Conversation
from strategies.cyclic import Cyclic
from strategies.ensemble import Ensemble
from strategies.errors import TrainingStopped
from strategies.federation import Federation
from strategies.flower_patches import shorten_fetch_pause
from strategies.heads import Heads
from strategies.holdout import Holdout
from strategies.one_object_grid import OneObjectGrid
from strategies.orphan import end_when_orphaned
from strategies.run.budget import Budget
from strategies.run.folder import RunFolder
from strategies.run.journal import Journal
from strategies.run.state import RunState, state_so_far
from strategies.run.summary import Outcome, write_results
from strategies.run.trackers import make_trackers
from strategies.run.tracking import Stages, Tracking
from strategies.split import Split
from strategies.teaching import Teaching, TrainingContext
from strategies.training import Training

#: exchange -> how the server leads it.
TEACHINGS: dict[str, type[Teaching]] = {
    "gradients": Federation,
    "weights": Federation,
    "cyclic": Cyclic,
    "single": Cyclic,
    "ensemble": Ensemble,
    "layers": Split,
}


#: Attacks an ended run, given its folder and where to report progress, and adds what was found.
AuditRun = Callable[[Path, Listener], None]


def make_server_app(
    open_holdout: Callable[[Settings], Holdout],
    audit: AuditRun | None = None,
    *,
    by_way_of: Callable[[Grid], Grid] = lambda grid: grid,
) -> ServerApp:
    """Return the app of a server that opens the public holdout in a way of its own.

    Args:
        open_holdout: returns it.
        audit: called when a training has ended, where one process plays all parts.
        by_way_of: what stands between the training and the grid that the app is given.
    """
    made = ServerApp()

    @made.main()
    def main(grid: Grid, context: Context) -> None:
        lead(by_way_of(grid), context, open_holdout=open_holdout, audit=audit)

    return made


def lead(
    grid: Grid,
    context: Context,
    *,
    open_holdout: Callable[[Settings], Holdout],
    audit: AuditRun | None = None,
) -> None:
    """Train as the run's config says; arguments and errors as for `lead_training`."""
    settings = Settings.from_config(context.run_config)
    lead_training(grid, settings, open_holdout=open_holdout, audit=audit)


def lead_training(
    grid: Grid,
    settings: Settings,
    *,
    open_holdout: Callable[[Settings], Holdout],
    audit: AuditRun | None = None,
) -> tuple[Path, Outcome]:
    """Train, and leave a readable run folder behind, however the training ends.

    Args:
        grid: the way to the hospitals.
        settings: the run's.
        open_holdout: returns what released models are measured on.
        audit: called when the training has ended, where one process plays all parts.

    Returns:
        The run folder, and what the training came to.

    Raises:
        AuditFailed: what was promised does not hold; the summary says why.
        TrainingStopped: it cannot go on; or another process leads the training of this folder.
    """
    end_when_orphaned()
    shorten_fetch_pause()
    folder = RunFolder.open(settings)
    journal = Journal(folder.path / "server")
    with journal.held():
        outcome = _lead(grid, settings, folder, journal, open_holdout, audit)
    return folder.path, outcome


def _lead(
    grid: Grid,
    settings: Settings,
    folder: RunFolder,
    journal: Journal,
    open_holdout: Callable[[Settings], Holdout],
    audit: AuditRun | None,
) -> Outcome:
    tracking = Tracking(folder, make_trackers(settings, folder.path))
    started = time.perf_counter()
    try:
        prepared = _prepare(grid, settings, folder, journal, tracking, open_holdout)
        training = Training(prepared, TEACHINGS[settings.exchange.name])
        _announce(tracking, prepared, training)
    except BaseException as error:
        status, message = "stopped", _where_to_read(error)
        if isinstance(error, KeyboardInterrupt):
            status, message = "interrupted", "interrupted before the training began"
        else:
            folder.log_exception(error)
        tracking.record("end", status=status, message=message)
        tracking.close()
        raise
    status, message = "interrupted", "interrupted; what was done so far is saved"
    try:
        status, message = "finished", training.run().note
    except TrainingStopped as stopped:
        status, message = "stopped", str(stopped)
        raise
    except Exception as error:
        folder.log_exception(error)
        status, message = "failed", _where_to_read(error)
        raise
    finally:
        write_results(
            folder,
            settings,
            training.outcome,
            prepared.budget,
            status=status,
            seconds=prepared.state.seconds + time.perf_counter() - started,
        )
        if status == "finished":
            training.end()
        prepared.budget.close()
        _end(folder, training, settings, tracking, audit, status, message)
    return training.outcome


def _end(
    folder: RunFolder,
    training: Training,
    settings: Settings,
    tracking: Tracking,
    audit: AuditRun | None,
    status: str,
    message: str,
) -> None:
    """Keep what predicts, audit a training that came to an end, and say how it ended."""
    try:
        training.keep_predictors(folder)
        if audit is not None and settings.audit.enabled and status in ("finished", "stopped"):
            audit(folder.path, Stages(tracking))
    except Exception as error:
        folder.log_exception(error)
        status, message = "failed", _where_to_read(error)
        raise
    finally:
        tracking.record("end", status=status, message=message)
        tracking.close()


def _prepare(
    grid: Grid,
    settings: Settings,
    folder: RunFolder,
    journal: Journal,
    tracking: Tracking,
    open_holdout: Callable[[Settings], Holdout],
) -> TrainingContext:
    """Plan the noise, read the holdout, and find out whether a training goes on here."""
    stages = Stages(tracking)
    stages("planning the noise")
    kept = journal.read()
    budget = Budget(
        settings,
        folder.path / "ledger.jsonl",
        noise_multiplier=kept.noise_multiplier if kept else None,
    )
    stages(f"reading {settings.data.name}")
    with listening(stages):
        holdout = open_holdout(settings)
    agreement = agree(
        settings,
        holdout,
        TEACHINGS[settings.exchange.name].shared(settings, holdout),
        noise_multiplier=budget.noise_multiplier,
        kept=kept,
    )
    conversation = Conversation(grid, timeout_seconds=settings.run.timeout)
    return TrainingContext(
        settings=settings,
        agreement=agreement,
        conversation=conversation,
        budget=budget,
        tracking=tracking,
        holdout=holdout,
        journal=journal,
        state=state_so_far(folder.path) if kept else RunState(),
        heads=Heads.beside(
            folder.path.parent,
            conversation,
            tracking,
            training=agreement.training,
            bind=agreement.bind,
        ),
    )


def _where_to_read(error: BaseException) -> str:
    if isinstance(error, TrainingStopped | AuditFailed):
        return str(error)
    return f"{type(error).__name__}; run.log in the run's folder has the traceback"


def _announce(tracking: Tracking, context: TrainingContext, training: Training) -> None:
    """Write that a run begins, and what of it is sound and yet not worth much."""
    tracking.record("start", **_start_fields(context, training))
    for text in _warnings(context):
        tracking.record("warning", message=text)


def _start_fields(context: TrainingContext, training: Training) -> dict[str, object]:
    settings = context.settings
    return {
        "training": context.training,
        "scenario": settings.run.scenario,
        "rounds": training.planned_rounds,
        "hospitals": hospitals_expected(settings),
        "regime": settings.privacy.regime,
        "exchange": settings.exchange.name,
        "scheme": scheme_of(settings),
        "target_epsilon": settings.privacy.target_epsilon if settings.regime.private else None,
        "accountant": settings.privacy.accountant,
        "delta": settings.privacy.delta,
        "patients": context.holdout.patients,
        "noise_multiplier": context.budget.noise_multiplier,
    }


def _warnings(context: TrainingContext) -> Iterator[str]:
    """Yield what is sound and yet not worth much."""
    delta, patients = context.settings.privacy.delta, context.holdout.patients
    if context.settings.regime.private and delta * patients > 1:
        unit = context.holdout.unit
        yield (
            f"privacy.delta = {delta:g} is above 1/N = {1 / patients:.2g} (N = {patients:,} "
            f"{unit}s): publishing one {unit} in N whole would keep to it; set it below"
        )
    terms = context.agreement.terms
    noise, drawn = terms.noise.multiplier_of_sum, terms.denominator
    # Over T rounds what patients say adds up to T times as much, and noise to sqrt(T) times.
    if context.settings.regime.private and noise > drawn * sqrt(terms.rounds):
        yield (
            f"noise of {noise:.3g} clips on each sum is more than all that the {drawn:.3g} "
            f"{context.holdout.unit}s expected in one can say over {terms.rounds} rounds: hardly "
            "anything will be learned. Allow a larger epsilon, or find more of them"
        )


app = make_server_app(Holdout, by_way_of=OneObjectGrid)
