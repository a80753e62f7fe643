"""A model treats each record alone: every shipped one does; planted ones that do not are named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from clients.contract.settings import Settings
from clients.data import DatasetInfo, Records
from clients.models import MODELS, ModelError, build_model, prepare
from clients.models.independence import dependences
from clients.models.readiness import check_private_ready

SHAPES = {"image": (3, 32, 32), "volume": (1, 16, 16, 16), "table": (30,), "series": (12, 4)}
PAIRS = [(name, kind) for name, row in MODELS.items() for kind in (row.kinds or ("table",))]


def info_of(kind: str, shape: tuple[int, ...] | None = None, task: str = "binary") -> DatasetInfo:
    return DatasetInfo(
        name="made",
        title="",
        task=task,
        shape=shape or SHAPES[kind],
        classes=("a", "b"),
        kind=kind,
        input_range=(0.0, 1.0),
    )


def settings_of(name: str, weights: object = "", digest: str = "") -> Settings:
    return Settings.from_config(
        {"model.name": name, "model.weights": str(weights), "model.weights-digest": digest}
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        # The deepest net takes its time; of pictures it is always tried.
        pytest.param(
            *pair, marks=pytest.mark.exhaustive if pair == ("densenet121", "volume") else ()
        )
        for pair in PAIRS
    ],
)
def test_every_shipped_model_treats_each_record_alone(name: str, kind: str) -> None:
    task = "segmentation" if MODELS[name].dense else "binary"
    info, settings = info_of(kind, task=task), settings_of(name)
    made = Records(
        inputs=np.zeros((2, *info.shape), dtype=np.float32),
        labels=np.arange(2),
        patients=np.arange(2),
    )
    shape = prepare(settings, info, made, keep=None).inputs.shape[1:]
    module = build_model(settings, info, 0)
    before = {n: t.clone() for n, t in module.state_dict().items()}
    random_state = torch.random.get_rng_state()
    assert dependences(module, shape, info.input_range) == []
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert all(torch.equal(t, before[n]) for n, t in module.state_dict().items())


class Layer(nn.Module):
    """A layer without parameters, of one function."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.function(rows)


def straight_through(rows: torch.Tensor) -> torch.Tensor:
    """The value is the record's own; the gradient is the batch's."""
    mean = rows.mean(0)
    return rows + mean - mean.detach()


MIXING = {
    "centred on the batch": lambda rows: rows - rows.mean(0),
    "standardised over the batch": lambda rows: rows / (rows.std(0, correction=0) + 1e-3),
    "softmax over the batch": lambda rows: torch.softmax(rows, 0),
    "attention over the batch": lambda rows: torch.softmax(rows @ rows.T, 1) @ rows,
    "how many they are": lambda rows: rows / len(rows),
    "only those before": lambda rows: rows.cumsum(0),
    "the neighbour": lambda rows: rows.roll(1, 0),
    "a little of the batch": lambda rows: rows + 1e-4 * rows.mean(0),
}


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("name", MIXING)
def test_a_layer_that_mixes_patients_is_found_and_named(name: str, zero: bool) -> None:
    """Also between layers that start at zero, where nothing is mixed at first."""
    module = nn.Sequential(nn.Linear(6, 5), Layer(MIXING[name]), nn.Linear(5, 2))
    if zero:
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
    with pytest.raises(ModelError, match=r"1 \(Layer\) mixes patients") as caught:
        check_private_ready(module, info_of("table", (6,)))
    assert caught.value.code == "not-private-ready"


def test_mixing_outside_any_layer_is_the_models_own() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 4), nn.Linear(4, 2)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            hidden = self.one(rows)
            return self.two(hidden - hidden.mean(0))

    with pytest.raises(ModelError, match=r"the model \(Own\) mixes patients"):
        check_private_ready(Own(), info_of("table", (6,)))


def test_a_gradient_that_reaches_other_records_is_found() -> None:
    module = nn.Sequential(nn.Linear(6, 5), Layer(straight_through), nn.Linear(5, 2))
    with pytest.raises(ModelError, match="the model's gradient mixes patients"):
        check_private_ready(module, info_of("table", (6,)))


class Remembers(nn.Module):
    """A hand-written running mean, in a buffer or out of sight."""

    def __init__(self, *, buffer: bool) -> None:
        super().__init__()
        if buffer:
            self.register_buffer("mean", torch.zeros(6))
        else:
            self.mean = torch.zeros(6)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.mean = 0.9 * self.mean + 0.1 * rows.mean(0).detach()
        return rows if "mean" in self._buffers else rows - self.mean


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Remembers(buffer=True), r"0\.mean \(Remembers\): kept from batch to batch"),
        (Remembers(buffer=False), "remembers earlier batches"),
        (Layer(lambda rows: torch.dropout(rows, 0.5, True)), "draws its own randomness"),
    ],
)
def test_what_is_kept_from_batch_to_batch_is_found(layer: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_private_ready(nn.Sequential(layer, nn.Linear(6, 2)), info_of("table", (6,)))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.BatchNorm3d(4), r"GroupNorm\(2, 4\)"),
        (nn.SyncBatchNorm(4), r"GroupNorm\(2, 4\)"),
        (nn.LazyBatchNorm2d(), "use nn.GroupNorm"),
        (nn.InstanceNorm1d(4, track_running_stats=True), "track_running_stats=False"),
        (nn.InstanceNorm3d(4, track_running_stats=True), "track_running_stats=False"),
        (nn.LazyLinear(3), "give it its sizes"),
        (nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)), "remove spectral_norm"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_a_layer_with_running_state_is_named_with_what_to_do(
    layer: nn.Module, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        check_private_ready(nn.Sequential(layer))


def test_instance_norm_without_statistics_is_allowed() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.Flatten(), nn.Linear(4 * 36, 2)
    )
    check_private_ready(module, info_of("image", (1, 8, 8)))


OWN = """
from torch import nn

class Still(nn.BatchNorm1d):
    def train(self, mode=True):
        return super().train(False)

def frozen(info):
    norm = Still(info.shape[0])
    for parameter in norm.parameters():
        parameter.requires_grad_(False)
    return nn.Sequential(norm, nn.Linear(info.shape[0], 2))

def learning(info):
    return nn.Sequential(Still(info.shape[0]), nn.Linear(info.shape[0], 2))
"""


def test_public_statistics_may_be_used_by_a_frozen_layer_in_inference_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then they are never released: the file has them."""
    (tmp_path / "still_models.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    import still_models  # type: ignore[import-not-found]

    info, file = info_of("table"), tmp_path / "public.pth"
    torch.save(still_models.frozen(info).state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    module = build_model(settings_of("still_models:frozen", file, digest), info, 0)
    assert not module[0].training and "0.running_mean" in module.state_dict()
    for settings, message in (
        (settings_of("still_models:frozen"), "mixes patients"),  # statistics from nowhere
        (settings_of("still_models:frozen", file), "mixes patients"),  # from whatever file
        (settings_of("still_models:frozen", file, "0" * 64), "has SHA-256"),
        (settings_of("still_models:learning", file, digest), "mixes patients"),
    ):
        with pytest.raises(ModelError, match=message):
            build_model(settings, info, 0)


def test_a_model_that_does_not_run_on_the_data_is_refused() -> None:
    with pytest.raises(ModelError, match=r"does not run on records of shape \(30,\)"):
        check_private_ready(nn.Linear(6, 2), info_of("table"))
