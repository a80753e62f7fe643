import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from clients.contract.settings import Settings
from clients.data import DatasetInfo, LazyInputs, Records
from clients.data.pictures import PictureForm, PictureStore
from clients.data.records import PixelStore
from clients.learning.cuts import pieces_of
from clients.models import MODELS, ModelError, build_model, input_shape, prepare, prepare_public
from clients.models.readiness import check_private_ready

SHAPES = {"image": (3, 32, 32), "volume": (1, 28, 28, 28), "table": (30,), "series": (12, 4)}
#: Those that say something of each pixel have tests of their own.
PAIRS = [
    (name, kind)
    for name, row in MODELS.items()
    if not row.dense
    for kind in (row.kinds or ("table",))
]
#: The deepest net takes its time; what it is made of is also in those that are always tried.
PAIRS_BY_COST = [
    pytest.param(*pair, marks=pytest.mark.exhaustive if pair[0] == "densenet121" else ())
    for pair in PAIRS
]


def make_info(kind, shape=None, classes="abcde"):
    return DatasetInfo(
        name="made",
        title="",
        task="multiclass",
        shape=shape or SHAPES[kind],
        classes=tuple(classes),
        kind=kind,
        input_range=(0.0, 1.0),
    )


def make_settings(name, weights="", freeze=False):
    return Settings.from_config(
        {"model.name": name, "model.weights": str(weights), "model.freeze": freeze}
    )


def make_records(info, n=3, seed=0):
    inputs = np.random.default_rng(seed).random((n, *info.shape), dtype=np.float32)
    return Records(inputs=inputs, labels=np.arange(n) % 5, patients=np.arange(n))


@pytest.mark.parametrize(("name", "kind"), PAIRS_BY_COST)
@pytest.mark.filterwarnings(
    # Opacus' hooks sit on layers whose inputs are data; torch remarks on it.
    "ignore:Full backward hook is firing"
)
def test_per_patient_gradients_equal_one_patient_at_a_time(name, kind):
    from opacus.grad_sample import GradSampleModule

    info, settings = make_info(kind), make_settings(name)
    records = prepare(settings, info, make_records(info), keep=None)
    # In float64: deep nets amplify float32's rounding by four orders of magnitude.
    inputs = torch.from_numpy(np.array(records.inputs)).double()
    labels = torch.from_numpy(records.labels)
    module, oracle = (build_model(settings, info, 0).double() for _ in range(2))
    hooked = GradSampleModule(module, loss_reduction="sum")
    functional.cross_entropy(hooked(inputs), labels, reduction="sum").backward()
    found = [p.grad_sample for p in module.parameters()]
    for row in range(len(labels)):
        oracle.zero_grad()
        functional.cross_entropy(oracle(inputs[row : row + 1]), labels[row : row + 1]).backward()
        for one, expected in zip(found, oracle.parameters(), strict=True):
            torch.testing.assert_close(one[row], expected.grad, rtol=1e-9, atol=1e-10)


def test_models_that_are_built_leave_nothing_behind_in_torch():
    # What is asked of a device before its first use torch keeps, with the stack of whoever asked.
    before = len(torch.cuda._queued_calls)
    for seed in range(3):
        build_model(make_settings("logistic"), make_info("table"), seed)
    assert len(torch.cuda._queued_calls) == before


@pytest.mark.parametrize(("name", "kind"), PAIRS_BY_COST)
def test_a_model_is_the_same_for_the_same_seed_and_leaves_the_random_state_alone(name, kind):
    before = torch.random.get_rng_state()
    first, again = (build_model(make_settings(name), make_info(kind), 7) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    inputs = torch.from_numpy(
        np.array(
            prepare(
                make_settings(name), make_info(kind), make_records(make_info(kind)), keep=None
            ).inputs
        )
    )
    assert torch.equal(first(inputs), first(inputs))
    assert first(inputs).shape == (3, 5)


def test_other_seeds_start_elsewhere():
    start = [build_model(make_settings("mlp"), make_info("table"), s) for s in (0, 1)]
    assert not torch.equal(*(next(model.parameters()) for model in start))


def test_squeezenet_can_be_cut_between_its_modules():
    module = build_model(make_settings("squeezenet"), make_info("image"), 0)
    names = [name for name, _ in pieces_of(module)]
    assert names[:3] == ["colours", "features.0", "features.1"]
    assert {"features.5", "features.12", "classifier.1"} < set(names)


def test_squeezenet_has_the_published_size():
    module = build_model(make_settings("squeezenet"), make_info("image"), 0)
    assert sum(p.numel() for p in module.parameters()) == 725_061
    assert build_model(make_settings("squeezenet"), make_info("image", (1, 64, 64)), 0)(
        torch.zeros(2, 1, 64, 64)
    ).shape == (2, 5)


def test_squeezenet_takes_weights_by_torchvisions_names(tmp_path):
    from safetensors.torch import save_file

    pretrained = build_model(make_settings("squeezenet"), make_info("image", classes="ab"), 1)
    state = {key: value.clone() for key, value in pretrained.state_dict().items()}
    assert {"features.0.weight", "features.3.squeeze.bias", "classifier.1.weight"} <= set(state)
    torch.save(state, tmp_path / "weights.pth")
    save_file(state, tmp_path / "weights.safetensors")
    for file in ("weights.pth", "weights.safetensors"):
        settings = make_settings("squeezenet", tmp_path / file, freeze=True)
        module = build_model(settings, make_info("image"), 0)
        assert torch.equal(module.state_dict()["features.0.weight"], state["features.0.weight"])
        trained = {name for name, p in module.named_parameters() if p.requires_grad}
        assert trained == {"classifier.1.weight", "classifier.1.bias"}


def test_weights_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"features.0.weight": torch.zeros(2)}, path)
    with pytest.raises(ModelError, match="fits no layer"):
        build_model(make_settings("cnn", path), make_info("image"), 0)
    state = build_model(make_settings("cnn"), make_info("image"), 0).state_dict()
    torch.save({**state, "conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=r"conv1\.weight has shape \(1,\)"):
        build_model(make_settings("cnn", path), make_info("image"), 0)
    torch.save({key: value for key, value in state.items() if key != "conv2.bias"}, path)
    with pytest.raises(ModelError, match=r"has no conv2\.bias"):
        build_model(make_settings("cnn", path), make_info("image"), 0)


def test_a_weights_file_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    torch.save({"conv1.weight": Evil()}, tmp_path / "weights.pth")
    with pytest.raises(ModelError) as caught:
        build_model(make_settings("cnn", tmp_path / "weights.pth"), make_info("image"), 0)
    assert caught.value.code == "unreadable"
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.BatchNorm2d(64), r"1 \(BatchNorm2d\) mixes patients.*GroupNorm\(32, 64\)"),
        (nn.BatchNorm1d(6), r"GroupNorm\(3, 6\)"),
        (nn.LSTM(3, 3), r"DPLSTM"),
        (nn.Dropout(0.5), r"draws its own randomness"),
        (nn.InstanceNorm2d(3, track_running_stats=True), r"track_running_stats=False"),
    ],
)
def test_an_unsuited_layer_is_named_with_its_replacement(layer, message):
    with pytest.raises(ModelError, match=message) as caught:
        check_private_ready(nn.Sequential(nn.Flatten(), layer))
    assert caught.value.code == "not-private-ready"
    check_private_ready(nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2)))


def test_your_own_model_is_found_and_checked(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(
        "from torch import nn\n"
        "def good(info):\n    return nn.Linear(info.shape[0], len(info.classes))\n"
        "def bad(info):\n    return nn.Sequential(good(info), nn.BatchNorm1d(len(info.classes)))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    build_model(make_settings("my_models:good"), make_info("table"), 0)
    with pytest.raises(ModelError, match="BatchNorm1d"):
        build_model(make_settings("my_models:bad"), make_info("table"), 0)
    with pytest.raises(ModelError, match="cannot be imported"):
        build_model(make_settings("my_models:absent"), make_info("table"), 0)


def test_an_unknown_model_names_the_nearest_and_a_wrong_kind_is_refused():
    with pytest.raises(ModelError, match="did you mean squeezenet"):
        build_model(make_settings("squeeznet"), make_info("image"), 0)
    with pytest.raises(ModelError, match="cnn is for image data; made is a table"):
        build_model(make_settings("cnn"), make_info("table"), 0)
    with pytest.raises(ModelError, match="16 pixels"):
        build_model(make_settings("scattering"), make_info("image", (1, 8, 8)), 0)


def make_pictures(n=6, size=32, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (n, size, size)).astype(np.uint8)
    return LazyInputs(PixelStore(pixels, channels_last=False))


def records_of(inputs):
    return Records(
        inputs=inputs, labels=np.zeros(len(inputs), dtype=np.int64), patients=np.arange(len(inputs))
    )


def test_features_of_a_patient_do_not_depend_on_any_other():
    info, settings = make_info("image", (1, 32, 32)), make_settings("scattering")
    inputs = make_pictures()
    together = prepare(settings, info, records_of(inputs), keep=None).inputs[:]
    alone = prepare(settings, info, records_of(np.asarray(inputs)[2:3]), keep=None).inputs
    np.testing.assert_allclose(together[2:3], alone, atol=2e-3)  # kept as float16
    # Negative control: normalising over the rows would make them depend on each other.
    assert abs((together[2] - together.mean(axis=0)) - (alone[0] - alone.mean(axis=0))).max() > 0.1


def damaged(tmp_path):
    from PIL import Image

    files = [tmp_path / f"{number}.png" for number in range(4)]
    for number, file in enumerate(files):
        Image.new("L", (32, 32), 50 * number + 20).save(file)
    files[1].write_bytes(b"junk")
    return LazyInputs(PictureStore(files, PictureForm(size=32, channels=1)))


@pytest.mark.parametrize("name", ["cnn", "scattering"])
def test_a_picture_that_cannot_be_read_is_no_number_to_any_model(tmp_path, name):
    info, settings = make_info("image", (1, 32, 32)), make_settings(name)
    records = records_of(damaged(tmp_path))
    prepared = np.asarray(prepare(settings, info, records, keep=None).inputs).reshape(4, -1)
    assert np.isnan(prepared[1]).any()
    assert np.isfinite(prepared[[0, 2, 3]]).all()
    assert prepare_public(settings, info, records, keep=None).patients.tolist() == [0, 2, 3]


@pytest.mark.parametrize("name", ["cnn", "scattering"])
def test_the_shape_that_a_model_gets_is_known_without_a_record(name):
    info, settings = make_info("image", (1, 32, 32)), make_settings(name)
    prepared = prepare(settings, info, records_of(make_pictures()), keep=None)
    assert input_shape(settings, info) == prepared.inputs.shape[1:]


def test_scattering_barely_moves_when_a_picture_does():
    from clients.models.scattering import Scattering

    grid = np.linspace(0, 60, 64)
    wave = np.sin(grid)[:, None] * np.sin(1.3 * grid)[None] * 0.5 + 0.5
    still = torch.from_numpy(np.stack([wave, np.roll(wave, 1, axis=1)])[:, None]).float()
    maps = Scattering(64, 64)(still)
    assert maps.shape == (2, 89, 8, 8)
    moved = (maps[0] - maps[1]).norm() / maps[0].norm()
    assert moved < 0.3 * (still[0] - still[1]).norm() / still[0].norm()


def test_scattering_of_a_flat_picture_is_its_grey_and_nothing_else():
    from clients.models.scattering import Scattering

    maps = Scattering(32, 32)(torch.full((1, 1, 32, 32), 0.4))[0]
    torch.testing.assert_close(maps[0], torch.full((8, 8), 0.4), atol=1e-5, rtol=0)
    assert maps[1:].abs().max() < 1e-5


def test_scattering_tells_orientations_apart():
    from clients.models.scattering import ANGLES, Scattering

    ramp = torch.arange(64) * (3 * np.pi / 8)
    stripes = torch.stack(
        [torch.sin(ramp)[None].expand(64, 64), torch.sin(ramp)[:, None].expand(64, 64)]
    )
    rings = Scattering(64, 64)(stripes[:, None])[:, 1 + ANGLES : 1 + 2 * ANGLES].mean(dim=(2, 3))
    apart = abs(int(rings[0].argmax()) - int(rings[1].argmax()))
    assert apart == ANGLES // 2
