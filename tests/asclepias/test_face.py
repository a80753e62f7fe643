"""An app of one's own: the strategy, the hospital's side, and what of both is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedMedian, FedProx, FedYogi
from torch import nn
from torch.nn import functional

from asclepias import Patients, SecureFedAvg, hospital_mod, private_client
from clients.contract.settings import SettingsError
from strategies.errors import TrainingStopped
from tests.asclepias.own_apps import (
    FEATURES,
    HOSPITALS,
    PATIENTS,
    SIZES,
    AppGrid,
    first_arrays,
    furthest,
    load,
    net,
    plain_app,
    train,
    values,
)

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def private_app(loss=functional.cross_entropy, model=net, data=load) -> ClientApp:
    """The client of a process of its own: a function without a name is never known again."""
    return private_client(model, lambda context: data(context), loss, one_record_each=True)


def secure(tmp_path: Path, strategy: FedAvg | None = None, **options) -> SecureFedAvg:
    given = {"patients": PATIENTS, "hospitals": HOSPITALS, "folder": tmp_path / "run"}
    return SecureFedAvg(strategy, **{**given, **options})


def start(strategy, app=private_app, rounds: int = 2, **options):
    grid = AppGrid(app, **{k: options.pop(k) for k in ("apart", "fresh") if k in options})
    given = {"initial_arrays": first_arrays(), "num_rounds": rounds, **options}
    return strategy.start(grid=grid, **given)


def modded() -> ClientApp:
    app = ClientApp(mods=[hospital_mod])
    app.train()(train)
    return app


def by_fedavg(rounds: int, strategy: FedAvg | None = None, steps: int = 2) -> ArrayRecord:
    """What Flower's own strategy makes of the plain app."""
    grid = AppGrid(plain_app)
    grid._config["local-steps"] = steps
    nodes = {"min_train_nodes": HOSPITALS, "min_available_nodes": HOSPITALS}
    strategy = strategy or FedAvg(fraction_evaluate=0.0, **nodes)
    return strategy.start(grid=grid, initial_arrays=first_arrays(), num_rounds=rounds).arrays


def privacy(strategy: SecureFedAvg) -> dict:
    return json.loads((strategy.folder / "privacy.json").read_bytes())


def logs(strategy: SecureFedAvg) -> str:
    return "".join(log.read_text() for log in strategy.folder.rglob("hospital.log"))


def test_own_training_behind_the_mod_ends_where_fedavg_does(tmp_path: Path) -> None:
    rounds, strategy = 3, secure(tmp_path, own_training=True)
    found = start(strategy, modded, rounds).arrays
    each = strategy.sum_rounding / PATIENTS + 2e-7  # float32 itself
    assert 0.0 < furthest(found, by_fedavg(rounds)) <= rounds * each
    assert furthest(found, first_arrays()) > 1000 * rounds * each
    assert privacy(strategy)["observers"][0]["epsilon"] is None


def test_private_client_without_noise_ends_where_fedavg_does(tmp_path: Path) -> None:
    rounds, rate = 3, 0.2
    strategy = secure(tmp_path, l2_clip=10.0, sampling_rate=1.0, learning_rate=rate)
    found = start(strategy, rounds=rounds).arrays
    each = rate * strategy.sum_rounding / PATIENTS + 2e-7
    assert 0.0 < furthest(found, by_fedavg(rounds, steps=1)) <= rounds * each


@pytest.mark.parametrize(
    "kind",
    [
        FedAdam,
        pytest.param(FedAdagrad, marks=pytest.mark.exhaustive),
        pytest.param(FedYogi, marks=pytest.mark.exhaustive),
    ],
    ids=lambda kind: kind.__name__,
)
def test_the_server_step_is_that_of_flowers_strategy(tmp_path: Path, kind: type[FedAvg]) -> None:
    nodes = {"min_train_nodes": HOSPITALS, "min_available_nodes": HOSPITALS}
    given = {"fraction_evaluate": 0.0, "eta": 0.05, "tau": 0.01, **nodes}
    strategy = secure(tmp_path, kind(**given), own_training=True)
    found, expected = start(strategy, modded, 3).arrays, by_fedavg(3, kind(**given))
    assert furthest(found, expected) < 2e-4
    assert furthest(found, first_arrays()) > 0.02


@pytest.mark.usefixtures("chances")  # one honest bound in twenty is above its claim
def test_an_epsilon_is_kept_attacked_and_told(tmp_path: Path) -> None:
    seen: list[int] = []

    def evaluate(rounds: int, arrays: ArrayRecord) -> MetricRecord:
        seen.append(rounds)
        return MetricRecord({"norm": float(np.linalg.norm(values(arrays)["0.weight"]))})

    strategy = secure(tmp_path, target_epsilon=2.0, sampling_rate=0.3)
    planned = {row.observer: row.epsilon for row in strategy.observers(4)}
    result = start(strategy, rounds=4, evaluate_fn=evaluate)
    told = privacy(strategy)
    assert told["audited"] is True
    server = next(row for row in told["observers"] if row["observer"] == "server")
    assert 1.5 < server["epsilon"]["prv"] <= 2.0 and server["binds_target"]
    assert 0.0 < server["audit"]["epsilon"] <= server["epsilon"]["prv"]
    assert planned["server"]["prv"] == pytest.approx(server["epsilon"]["prv"], rel=0.02)
    assert seen[0] == 0 and seen[-1] == 4 and len(seen) > 2
    assert set(result.evaluate_metrics_serverapp) == set(seen)
    epsilons = [result.train_metrics_clientapp[n]["epsilon"] for n in range(1, 5)]
    assert epsilons == sorted(epsilons) and 0.0 < epsilons[0] < epsilons[-1] <= 2.5
    assert furthest(result.arrays, first_arrays()) > 0.0


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", ["apart", "fresh"])
def test_a_process_for_each_hospital_or_message_ends_in_the_same_model(
    tmp_path: Path, how: str
) -> None:
    given = {"noise_multiplier": 1.0, "seed": 3, "audit": False}
    together = start(secure(tmp_path, **given)).arrays
    other = start(secure(tmp_path, folder=tmp_path / "other", **given), **{how: True}).arrays
    assert furthest(together, other) == 0.0


def test_who_is_behind_at_the_end_is_helped_to_confirm(tmp_path: Path) -> None:
    def forget(message: Message, reply: Message | None) -> Message | None:
        if reply is None and message.content.config_records["asclepias"]["kind"] == "query.confirm":
            if not asked:
                grid.start_processes()
            asked.append(message)
        return message if reply is None else reply

    asked: list[Message] = []
    grid = AppGrid(private_app)
    grid._meddle = forget
    strategy = secure(tmp_path, noise_multiplier=1.0, audit=False)
    strategy.start(grid=grid, initial_arrays=first_arrays(), num_rounds=2)
    assert len(asked) > HOSPITALS


def squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs - targets).square().mean()


def load_heights(context) -> Patients:
    """Records of patients who have several, with two numbers to find for each."""
    inputs = load(context).inputs
    names = [f"patient-{row // 2}" for row in range(len(inputs))]
    return Patients(inputs, inputs[:, :2] * 2.0, patients=names)


def test_own_loss_targets_and_patients(tmp_path: Path) -> None:
    def line() -> nn.Module:
        return nn.Linear(FEATURES, 2)

    first = ArrayRecord({n: p.detach().clone() for n, p in line().state_dict().items()})
    strategy = secure(
        tmp_path, patients=PATIENTS // 2, l2_clip=20.0, sampling_rate=1.0, learning_rate=0.6
    )
    result = strategy.start(
        grid=AppGrid(lambda: private_client(line, load_heights, squared)),
        initial_arrays=first,
        num_rounds=12,
    )
    found = values(result.arrays)["weight"]
    assert found == pytest.approx(2.0 * np.eye(2, FEATURES), abs=0.25)


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.inner(inputs - inputs.mean(dim=0))


class Turned(Mixing):
    """Treats each record alone, but its layers in another order."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.inner[2](self.inner[:2](inputs.flip(0)).flip(0))


def contrasting(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs - outputs.mean(dim=0), targets)


def weighted(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, targets, weight=torch.tensor([1.0, 5.0, 9.0]))


@pytest.mark.parametrize(
    ("app", "arrays", "told"),
    [
        pytest.param({"model": Mixing}, lambda: Mixing(), "mixes patients", id="model"),
        pytest.param({"model": Turned}, lambda: Turned(), "another order", id="order"),
        pytest.param({"loss": contrasting}, net, "the loss mixes patients", id="contrast"),
        pytest.param({"loss": weighted}, net, "the loss mixes patients", id="weighted-mean"),
        pytest.param({}, lambda: nn.Linear(FEATURES, 3), "initial_arrays", id="other-model"),
    ],
)
def test_what_mixes_patients_is_refused_before_it_is_paid(tmp_path, app, arrays, told) -> None:
    strategy = secure(tmp_path, noise_multiplier=1.0)
    with pytest.raises(TrainingStopped, match="settings-refused"):
        strategy.start(
            grid=AppGrid(lambda: private_app(**app)),
            initial_arrays=ArrayRecord(arrays().state_dict()),
            num_rounds=2,
        )
    assert told in logs(strategy)


def test_more_is_not_claimed_than_records_say(tmp_path: Path) -> None:
    strategy = secure(tmp_path, noise_multiplier=1.0)
    with pytest.raises(TrainingStopped, match=r"what they say of patients.* Mend that there"):
        start(strategy, lambda: private_client(net, load))
    assert "facts.unit is patient in the run, and record here. A patient is" in logs(strategy)


def test_the_mod_seals_or_is_silent(tmp_path: Path) -> None:
    grid = AppGrid(modded)
    content = RecordDict({"arrays": first_arrays()})
    [reply] = grid.send_and_receive([Message(content, next(iter(grid.get_node_ids())), "train")])
    assert reply.has_error() and reply.error.reason == "malformed"
    strategy = secure(tmp_path, noise_multiplier=1.0)
    with pytest.raises(TrainingStopped, match=r"settings-refused: .*or not for its app"):
        start(strategy, modded)
    assert "use private_client where gradients of single patients" in logs(strategy)
    with pytest.raises(TrainingStopped, match="settings-refused"):
        start(secure(tmp_path, folder=tmp_path / "other", own_training=True), private_app)


def test_whoever_is_waited_for_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    grid = AppGrid(private_app, nodes=1)
    with pytest.raises(TrainingStopped, match=r"1 of 3 .* joined\. Start the missing"):
        secure(tmp_path, noise_multiplier=1.0).start(grid, first_arrays(), 2, timeout=1.0)
    assert "1 of 3 hospitals connected; waiting for 1 s" in caplog.text


def test_a_change_that_was_not_planned_for_is_not_cut(tmp_path: Path) -> None:
    strategy = secure(tmp_path, own_training=True, largest_change=1e-4)
    with pytest.raises(TrainingStopped):
        start(strategy, modded)
    assert "declare a larger largest_change" in logs(strategy)


def test_a_run_that_was_stopped_goes_on_from_its_own_beginning(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(rounds: int, arrays: ArrayRecord) -> None:
        if rounds == 1:
            raise Stopped

    def go_on(rounds: int, arrays: ArrayRecord) -> MetricRecord:
        return MetricRecord({"rounds": rounds})

    given = {"noise_multiplier": 1.0, "seed": 3, "audit": False}
    strategy, grid = secure(tmp_path, **given), AppGrid(private_app)
    with pytest.raises(Stopped):
        strategy.start(grid, first_arrays(), num_rounds=4, evaluate_fn=stop)
    again = secure(tmp_path, folder=strategy.folder, **given)
    found = again.start(grid, first_arrays(seed=9), num_rounds=4, evaluate_fn=go_on)
    whole = start(secure(tmp_path, folder=tmp_path / "whole", **given), rounds=4)
    assert furthest(found.arrays, whole.arrays) == 0.0
    assert list(found.evaluate_metrics_serverapp)[-1] == 4


def test_tensors_are_kept_on_disk_only_of_a_training_that_was_joined(tmp_path: Path) -> None:
    with pytest.raises(TrainingStopped):
        secure(tmp_path, noise_multiplier=1.0).start(
            AppGrid(private_app), ArrayRecord(nn.Linear(FEATURES, 3).state_dict())
        )
    assert not [*(tmp_path / "cache").rglob("*.safetensors")]
    given = {"folder": tmp_path / "own", "noise_multiplier": 1.0, "audit": False}
    start(secure(tmp_path, **given))
    assert len([*(tmp_path / "cache").rglob("*.safetensors")]) == 1


def test_options_without_effect_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="single updates"):
        secure(tmp_path, FedMedian())
    with pytest.raises(ValueError, match="fraction_train"):
        secure(tmp_path, FedAvg(fraction_train=0.5))
    with pytest.raises(ValueError, match="pulls to where"):
        secure(tmp_path, FedProx(proximal_mu=0.1))
    with pytest.raises(ValueError, match="train_config has no effect"):
        start(secure(tmp_path), train_config={"lr": 0.1})
    with pytest.raises(SettingsError, match="nothing bounds what a patient"):
        start(secure(tmp_path, own_training=True, target_epsilon=1.0))
    normed = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(ValueError, match="num_batches_tracked is int64"):
        secure(tmp_path).start(AppGrid(private_app), ArrayRecord(normed.state_dict()))
    with pytest.raises(ValueError, match="how many hospitals"):
        secure(tmp_path, hospitals=0, noise_multiplier=1.0).observers(3)
    with pytest.raises(RuntimeError, match="start"):
        secure(tmp_path).configure_train(1, first_arrays(), None, None)


def test_fedprox_pulls_local_steps(tmp_path: Path) -> None:
    given = {"local_steps": 3, "sampling_rate": 1.0, "l2_clip": 10.0, "learning_rate": 0.5}
    free = start(secure(tmp_path, **given)).arrays
    pulled = start(secure(tmp_path, FedProx(proximal_mu=1.0), folder=tmp_path / "b", **given))
    assert furthest(pulled.arrays, first_arrays()) < furthest(free, first_arrays())


def test_an_app_that_is_loaded_again_remembers_what_it_was(tmp_path: Path) -> None:
    def loaded() -> ClientApp:
        return private_client(net, load, one_record_each=True)

    behind: list[str] = []

    def listen(message: Message, reply: Message | None) -> Message | None:
        if reply is not None and reply.has_error():
            behind.append(reply.error.reason)
        return message if reply is None else reply

    grid = AppGrid(loaded, fresh=True)
    grid._meddle = listen
    strategy = secure(tmp_path, noise_multiplier=1.0, audit=False)
    strategy.start(grid=grid, initial_arrays=first_arrays(), num_rounds=2)
    assert behind == []


def test_an_apps_own_training_is_told_what_flower_would_tell_it(tmp_path: Path) -> None:
    told: list[dict] = []

    def listening() -> ClientApp:
        app = ClientApp(mods=[hospital_mod])

        @app.train()
        def own(message: Message, context) -> Message:
            told.append(dict(message.content["config"]))
            return train(message, context)

        return app

    strategy = secure(tmp_path, FedProx(proximal_mu=0.5), own_training=True)
    start(strategy, listening, train_config={"lr": 0.1})
    expected = {"proximal-mu": 0.5, "lr": 0.1}
    assert [{**expected, "server-round": n} for n in (1, 2) for _ in range(HOSPITALS)] == told


class Readings(torch.utils.data.Dataset):
    """Six records of three patients, one of which cannot be read."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, number: int) -> dict:
        if number == 4:
            raise OSError("a damaged file")
        image = torch.full((1, 2, 2), float(number))
        return {"image": image, "label": number % 2, "patient": f"p{number // 2}"}


def test_a_loaders_records_are_read_once_and_bad_ones_left_out() -> None:
    loader = torch.utils.data.DataLoader(Readings(), batch_size=4, shuffle=True, drop_last=True)
    for data in (Readings(), loader):
        found = Patients.gathered(data)
        assert found.inputs[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 5]
        assert found.targets.tolist() == [0, 1, 0, 1, 1]
        assert found.numbers.tolist() == [0, 0, 1, 1, 2] and found.named
    assert "5" not in repr(found)
    with pytest.raises(ValueError, match="expected as many"):
        Patients(np.zeros((2, 3)), np.zeros(3))
    assert sum(SIZES) == PATIENTS
