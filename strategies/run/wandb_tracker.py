"""A run in Weights & Biases: curves as they grow, and at the end what the run folder holds.

One group per run. The server's run has the series. Those of single hospitals are shown only where
the data are public: under the hospital's name in a simulation, in a run of its own in a deployment.
Nothing here touches the network unless ``tracking.wandb = "online"``; what is written offline lies
in the run folder and can be sent later with ``wandb sync``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.tasks.catalogue import MEASURES as TASK_MEASURES
from strategies.run.tracking import refusal

if TYPE_CHECKING:
    from clients.contract.settings import Settings

logger = logging.getLogger(__name__)

PROJECT = "asclepias"
#: Longest waits for an answer of the network, in seconds: at the start, and at the end of a run.
INIT_SECONDS, FINISH_SECONDS = 30.0, 40.0
#: Series that are shown against rounds, against bytes and against time.
MEASURES = (
    *("loss", "accuracy", "auc", "balanced_accuracy", "epsilon_rdp", "epsilon_prv"),
    *sorted(TASK_MEASURES - {"loss", "accuracy", "auc", "balanced_accuracy", "kappa"}),
)
#: Prefix and axis of each way to look at a measure.
AXES = {"": "round", "by_megabytes/": "megabytes", "by_seconds/": "seconds"}
#: Fields of a `round` record that are series of their own.
ROUND_SERIES = {
    "seconds": "round_seconds",
    "uplink_bytes": "uplink_bytes_per_hospital",
    "downlink_bytes": "downlink_bytes_per_hospital",
    "contributions": "contributions",
}


class Series:
    """Turns records into rows of values over rounds, megabytes and seconds."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._megabytes = 0.0

    def row(self, kind: str, fields: Mapping[str, Any]) -> dict[str, float]:
        """Return the row that a record adds; empty for one that holds no series.

        Megabytes are those of all hospitals in both directions, seconds run from the start.
        """
        moment = float(fields["time"])
        self._start = moment if self._start is None else self._start
        values: dict[str, Any] = {}
        if kind == "round":
            way_totals = (fields.get(f"{way}_bytes_total", 0) for way in ("uplink", "downlink"))
            self._megabytes = sum(way_totals) / 1e6
            values = {new: fields.get(old) for old, new in ROUND_SERIES.items()}
            phases = (fields.get("phases") or {}) | (fields.get("server_phases") or {})
            values |= {f"phase_seconds/{name}": seconds for name, seconds in phases.items()}
        if kind in ("round", "release"):
            values |= {name: fields.get(name) for name in MEASURES}
        found = {name: float(value) for name, value in values.items() if value is not None}
        if not found:
            return {}
        axes = {
            "round": float(fields["round"]),
            "megabytes": self._megabytes,
            "seconds": moment - self._start,
        }
        views = {
            f"{prefix}{name}": found[name] for prefix in AXES for name in MEASURES if name in found
        }
        return axes | found | views


@contextmanager
def _no_job_inputs() -> Iterator[None]:
    """Have a run not look for inputs of a launched job, unless some were made.

    The module that would hold them takes a second and a half of a processor to import.
    """
    from wandb.sdk.wandb_run import Run

    name = "_detect_and_apply_job_inputs"
    before = getattr(Run, name, None)
    if before is None or "wandb.sdk.launch.inputs.internal" in sys.modules:
        yield
        return
    setattr(Run, name, lambda self: None)
    try:
        yield
    finally:
        setattr(Run, name, before)


class NotLoggedIn(Exception):
    """There is no key to send anything to Weights & Biases with."""


class WandbTracker:
    """Writes one training to Weights & Biases.

    Guarantee: a record that shows hospitals one by one is dropped, with the reason, unless the data
    are declared public; machine metrics likewise where hospitals share the server's machine. The
    time of a whole round is shown: whoever watches the network knows it, and reply times are listed
    as not covered.

    Raises:
        NotLoggedIn: ``tracking.wandb = "online"`` and no key; nobody is asked for one.
    """

    name = "Weights & Biases"

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._series = Series()
        self._refusal = refusal(settings)
        self._refused = False
        # A deployment declares its patients; a simulation counts them.
        self._deployed = settings.data.patients > 0
        self._hospitals: dict[str, Any] = {}
        if settings.tracking.wandb == "online":
            _insist_on_a_key()
        if settings.tracking.wandb == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        config = self._config()
        self._run = self._begin("server", "server", config)
        for prefix, axis in AXES.items():
            self._run.define_metric(axis, hidden=True)
            for name in MEASURES:
                self._run.define_metric(f"{prefix}{name}", step_metric=axis, summary="last")
        for name in (*ROUND_SERIES.values(), "phase_seconds/*", "hospitals/*"):
            self._run.define_metric(name, step_metric="round", summary="last")

    def record(self, kind: str, **fields: Any) -> None:
        """Add a record's series; at the end, what the run folder holds."""
        if kind == "hospitals":
            self._take_hospitals(fields)
        elif row := self._series.row(kind, fields):
            self._run.log(row)
        if kind == "end":
            self._add_files()
            self._run.summary["status"] = fields.get("status")

    def close(self) -> None:
        """Finish the server's run and the hospitals'."""
        for run in (self._run, *self._hospitals.values()):
            run.finish()

    def _begin(self, name: str, job: str, config: Mapping[str, Any]) -> Any:
        import wandb

        shared = bool(self._refusal) and not self._deployed
        with _no_job_inputs():
            return wandb.init(
                project=PROJECT,
                dir=str(self._folder),
                mode=self._settings.tracking.wandb,
                group=self._folder.name,
                name=name,
                job_type=job,
                config=dict(config),
                reinit="create_new",
                settings=wandb.Settings(
                    silent=True,
                    console="off",
                    save_code=False,
                    disable_git=True,
                    disable_job_creation=True,
                    init_timeout=INIT_SECONDS,
                    finish_timeout=FINISH_SECONDS,
                    finish_timeout_raises=True,
                    # A hospital's run is written here too: it would show the server's machine.
                    x_disable_stats=shared or job != "server",
                ),
            )

    def _hospital(self, name: str) -> Any:
        """Return the run of one hospital of a deployment, begun when it is first heard of."""
        if name not in self._hospitals:
            run = self._begin(name, "hospital", {"hospital": name})
            run.define_metric("*", step_metric="round")
            self._hospitals[name] = run
        return self._hospitals[name]

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {}
        for key, value in self._settings.to_config().items():
            group, _, name = key.partition(".")
            config.setdefault(group, {})[name] = value
        config["hospital_series"] = self._refusal or "shown: the data are public"
        return config

    def _take_hospitals(self, fields: Mapping[str, Any]) -> None:
        """Show what is known of each hospital, if that may be shown at all."""
        if self._refusal:
            if not self._refused:
                logger.warning("hospitals' series are %s", self._refusal)
            self._refused = True
            return
        by_hospital: dict[str, dict[str, float]] = {}
        for measure, by_name in fields.items():
            for name, value in by_name.items() if isinstance(by_name, Mapping) else ():
                by_hospital.setdefault(name, {})[measure] = float(value)
        axis = {"round": float(fields["round"])}
        if self._deployed:
            for name, values in by_hospital.items():
                self._hospital(name).log(axis | values)
            return
        self._run.log(
            axis
            | {
                f"hospitals/{name}/{measure}": value
                for name, values in by_hospital.items()
                for measure, value in values.items()
            }
        )

    def _add_files(self) -> None:
        """Add summary, tables, pictures and model, as far as the run folder has them."""
        import wandb

        summary = self._read("summary.json")
        self._run.summary.update(summary)
        if observers := self._read("privacy.json").get("observers"):
            self._run.log({"observers": _observer_table(observers)})
        if split := self._read("split.json"):
            self._run.log({"split": wandb.Image(_split_picture(split))})
        if counts := self._read("evaluation.json").get("confusion"):
            self._run.log({"confusion": _confusion_chart(self._read("evaluation.json"), counts)})
        model = self._folder / "model.safetensors"
        if model.is_file():
            status = {"status": summary.get("status")}
            artifact = wandb.Artifact(f"model-{self._folder.name}", type="model", metadata=status)
            # The run folder's own file, not a copy in wandb's cache.
            artifact.add_file(str(model), policy="immutable", skip_cache=True)
            self._run.log_artifact(artifact)

    def _read(self, name: str) -> dict[str, Any]:
        file = self._folder / name
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return dict(content)


def _insist_on_a_key() -> None:
    """Refuse to go on without a key: wandb would ask for one in the middle of a training."""
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise NotLoggedIn(
            "no API key is configured: run 'wandb login', or set tracking.wandb = \"offline\""
        )


def _observer_table(observers: list[Mapping[str, Any]]) -> Any:
    import wandb

    columns = ["observer", "epsilon_rdp", "epsilon_prv", "epsilon_at_least", "delta"]
    columns += ["binds_target", "why"]
    return wandb.Table(columns=columns, data=list(_observer_rows(observers)))


def _observer_rows(observers: list[Mapping[str, Any]]) -> Iterator[list[Any]]:
    """Yield one row per observer; an epsilon without a guarantee is not shown as one."""
    for one in observers:
        epsilon = (one.get("epsilon") or {}) if one.get("guaranteed", True) else {}
        yield [
            one["observer"],
            *(_number(epsilon.get(name)) for name in ("rdp", "prv")),
            _number((one.get("audit") or {}).get("epsilon")),
            _number(one.get("delta")),
            bool(one.get("binds_target")),
            one.get("why", ""),
        ]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _split_picture(split: Mapping[str, Any]) -> Any:
    """Draw how many records of each label each hospital has."""
    import io

    from matplotlib.figure import Figure
    from PIL import Image

    names, classes = list(split["hospitals"]), [str(one) for one in split["classes"]]
    counts = [split["hospitals"][name] for name in names]
    figure = Figure(
        figsize=(min(2.5 + 0.6 * len(classes), 14), min(1.2 + 0.25 * len(names), 12)),
        layout="constrained",
    )
    axes = figure.add_subplot()
    drawn = axes.imshow(counts, cmap="Blues", aspect="auto", vmin=0)
    figure.colorbar(drawn, label="records")
    axes.set_xticks(range(len(classes)), classes, rotation=45 if len(classes) > 4 else 0)
    shown = names if len(names) <= 40 else []
    axes.set_yticks(range(len(shown)), shown)
    axes.set_xlabel("label")
    axes.set_ylabel(f"{len(names)} hospitals")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return Image.open(file)


def _confusion_chart(evaluation: Mapping[str, Any], counts: list[list[int]]) -> Any:
    """Return W&B's own confusion chart, from counts rather than from patients' labels."""
    import wandb

    classes = [str(one) for one in evaluation.get("classes") or range(len(counts))]
    rows = [
        [classes[truth], classes[guess], value]
        for truth, row in enumerate(counts)
        for guess, value in enumerate(row)
    ]
    fields = {name: name for name in ("Actual", "Predicted", "nPredictions")}
    return wandb.plot_table(
        "wandb/confusion_matrix/v1",
        wandb.Table(columns=list(fields), data=rows),
        fields,
        {"title": "Public holdout"},
    )
