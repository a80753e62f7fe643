"""Gradients that are kept as factors against a plain loop over patients, in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from clients.learning import ghost_norms, recorded_layers
from clients.learning.ghost_norms import Factors, Owners, Rows
from clients.learning.patient_gradients import Scales, size_of, written
from clients.learning.recorded_layers import UnknownUse
from clients.learning.recorded_pass import RecordedPass, values_of_a_record
from clients.learning.windows import Window

# An even kernel needs one more value after than before.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")


class _Twice(nn.Module):
    """One layer, called twice in a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(12, 12)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.inner(torch.tanh(self.inner(rows)))


def _layers(kind: str) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a layer, and the shape of a record that it takes."""
    match kind:
        case "linear":
            return nn.Linear(12, 7), (12,)
        case "linear at positions":
            return nn.Linear(6, 9, bias=False), (4, 6)
        case "convolution":
            return nn.Conv2d(3, 8, 3, padding=1), (3, 5, 6)
        case "strided, dilated":
            return nn.Conv2d(2, 8, (3, 2), stride=(2, 1), dilation=(1, 2), padding=(1, 0)), (
                2,
                7,
                6,
            )
        case "same":
            return nn.Conv2d(2, 6, (4, 3), padding="same"), (2, 4, 5)
        case "reflected":
            return nn.Conv2d(2, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 5)
        case "one by one, strided":
            return nn.Conv2d(5, 9, 1, stride=2), (5, 5, 4)
        case "grouped":
            return nn.Conv2d(4, 8, 3, groups=2), (4, 5, 5)
        case "one axis":
            return nn.Conv1d(3, 8, 3, stride=2), (3, 9)
        case "three axes":
            return nn.Conv3d(2, 6, (2, 3, 2), padding=(1, 1, 0)), (2, 4, 3, 4)
        case "group norm":
            return nn.GroupNorm(2, 6), (6, 3, 4)
        case "layer norm":
            return nn.LayerNorm([3, 4]), (5, 3, 4)
        case "called twice":
            return _Twice(), (12,)
    raise ValueError(kind)


KINDS = (
    "linear",
    "linear at positions",
    "convolution",
    "strided, dilated",
    "same",
    "reflected",
    "one by one, strided",
    "grouped",
    "one axis",
    "three axes",
    "group norm",
    "layer norm",
    "called twice",
)


FORMS = ("factors", "pixels", "rows", "own passes", "whichever costs less")


def _model(kind: str) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a model with that layer behind another, so that gradients go through it."""
    torch.manual_seed(0)
    layer, shape = _layers(kind)
    first = nn.Conv1d(1, 1, 1) if len(shape) == 1 else nn.GroupNorm(1, shape[0])
    begin = nn.Sequential(nn.Unflatten(1, (1, -1)), first, nn.Flatten())
    begin = begin if len(shape) == 1 else nn.Sequential(first)
    outputs = layer(begin(torch.zeros(1, *shape))).numel()
    return nn.Sequential(begin, layer, nn.Tanh(), nn.Flatten(), nn.Linear(outputs, 3)), shape


def _owners(counts: list[int]) -> Owners:
    index = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return Owners(index, tuple(counts))


def _found(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, owners: Owners):
    record = RecordedPass([p for p in model.parameters() if p.requires_grad], owners)
    with record:
        logits = model(inputs)
    functional.cross_entropy(logits, labels, reduction="sum").backward()
    return record.gradients()


def _expected(
    model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, owners: Owners
) -> list[torch.Tensor]:
    """Return the mean gradient of each patient, one at a time, float64, for each parameter."""
    exact = copy.deepcopy(model).double()
    rows = []
    for patient in range(len(owners.counts)):
        mine = owners.index == patient
        exact.zero_grad()
        functional.cross_entropy(exact(inputs[mine].double()), labels[mine]).backward()
        rows.append([p.grad.flatten() for p in exact.parameters() if p.requires_grad])
    return [torch.stack(one) for one in zip(*rows, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "form", ["factors", "pixels", "rows", "own passes", "whichever costs less"]
)
@settings(max_examples=5, deadline=None)
@given(counts=st.lists(st.integers(1, 3), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_norms_rows_and_sums_are_those_of_one_patient_at_a_time(
    kind: str, form: str, counts: list[int], seed: int
) -> None:
    cost = {"factors": 1e9, "pixels": 1e9, "whichever costs less": ghost_norms.VALUE_COST}.get(
        form, -1.0
    )
    large = {"rows": 10**9, "own passes": 0}.get(form, ghost_norms.OWN_PASS)
    generator = torch.Generator().manual_seed(seed)
    model, shape = _model(kind)
    owners = _owners(counts)
    inputs = torch.randn(sum(counts), *shape, generator=generator)
    labels = torch.randint(0, 3, (sum(counts),), generator=generator)
    scale = torch.rand(len(counts), generator=generator, dtype=torch.float64) + 0.1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ghost_norms, "VALUE_COST", cost)
        patch.setattr(ghost_norms, "OWN_PASS", large)
        found = _found(model, inputs, labels, owners)
    pixels = {"factors": 10**12, "pixels": -(10**12)}.get(form, ghost_norms.PIXELS_COST)
    expected = _expected(model, inputs, labels, owners)
    if form != "whichever costs less":
        kept = {type(one) for one in found}
        rows = {torch.Tensor} if form == "own passes" and len(shape) == 3 else {torch.Tensor, Rows}
        assert Factors in kept if form in ("factors", "pixels") else kept <= rows
    # Against the whole gradient: a shift before a normalisation has one of nothing but rounding.
    largest = max(float(rows.abs().max()) for rows in expected)
    near = {"rtol": 1e-4, "atol": 1e-5 * largest}
    for one, rows in zip(found, expected, strict=True):
        everyone = torch.arange(len(counts))
        torch.testing.assert_close(written(one, everyone).double(), rows, **near)
        torch.testing.assert_close(written(one, everyone[-1:]).double(), rows[-1:], **near)
        torch.testing.assert_close(written(one[len(counts) - 1 :]).double(), rows[-1:], **near)
        total = torch.ones(rows.shape[1], dtype=torch.float64)
        assert size_of(one) == rows.shape[1]
        Scales(scale).add(total, one)
        torch.testing.assert_close(total, 1 + scale @ rows, **near)
        if isinstance(one, Factors):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(ghost_norms, "PIXELS_COST", pixels)
                squares, errors = one.squares()
            exact = one.written(everyone).square().sum(dim=1)
            assert bool(((squares - exact).abs() <= 2 * errors).all())


@pytest.mark.parametrize("outputs", [16, 160])
@pytest.mark.parametrize("last", [False, True])
def test_a_patient_of_large_maps_has_the_same_row_whoever_else_is_in_the_pass(
    outputs: int, last: bool
) -> None:
    """Whichever way maps lie, and weights of more and of fewer values than are told apart."""
    torch.manual_seed(0)
    layer = nn.Conv2d(96, outputs, 3, padding=1)
    maps = torch.randn(3, 96, 16, 16)
    if last:
        maps = maps.contiguous(memory_format=torch.channels_last)
    for form in (Rows, torch.Tensor):
        # Beside the layer's own pass, windows are copied: the two agree but for rounding.
        with pytest.MonkeyPatch.context() as patch:
            if form is Rows:
                patch.setattr(ghost_norms, "OWN_PASS", maps[0].numel())
            all_three = _rows_of(layer, maps, _owners([1, 2]))
            alone = _rows_of(layer, maps[1:], _owners([2]))
        assert type(all_three) is type(alone) is form
        torch.testing.assert_close(written(all_three)[1:], written(alone), rtol=0, atol=0)
        expected = torch.func.grad(_loss, argnums=1)(layer, layer.weight, maps[1:]).flatten()
        torch.testing.assert_close(written(alone)[0], expected, rtol=1e-4, atol=1e-3)


def test_the_row_of_a_patient_of_many_large_records_is_as_exact_as_that_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where positions are alike, one float32 for a million of them would be far off."""
    torch.manual_seed(0)
    layer, maps = nn.Conv2d(3, 8, 3, padding=1), torch.rand(15, 3, 256, 256)
    ones = torch.ones(15, 8, 256, 256)

    def row() -> torch.Tensor:
        record = RecordedPass(list(layer.parameters()), _owners([15]))
        with record:
            layer(maps).backward(ones)
        return written(record.gradients()[0])[0].double()

    whole = torch.func.grad(
        lambda weight: functional.conv2d(maps.double(), weight, padding=1).sum()
    )
    exact = whole(layer.weight.detach().double()).flatten() / 15
    assert float((row() - exact).norm() / exact.norm()) < 2e-6
    monkeypatch.setattr(recorded_layers, "_POSITIONS", 2**30)
    assert float((row() - exact).norm() / exact.norm()) > 5e-6


def _loss(layer: nn.Conv2d, weight: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    found = functional.conv2d(maps, weight, layer.bias, padding=1)
    return found.square().sum(dim=(1, 2, 3)).mean()


def _rows_of(layer: nn.Conv2d, maps: torch.Tensor, owners: Owners):
    record = RecordedPass(list(layer.parameters()), owners)
    with record:
        layer(maps).square().sum().backward()
    return record.gradients()[0]


def test_a_scale_of_zero_adds_nothing_whatever_the_gradient_is() -> None:
    outputs, inputs = torch.randn(3, 2, 4), torch.randn(3, 2, 5)
    outputs[1], inputs[1, 0] = torch.inf, 0.0
    owners = _owners([1, 1, 1])
    scale = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)
    for one in (
        Factors(outputs, inputs, None, owners),
        outputs.mT @ inputs,
    ):
        total = torch.zeros(20, dtype=torch.float64)
        Scales(scale).add(total, one)
        sound = torch.tensor([0, 2])
        expected = scale[sound] @ (outputs[sound].mT @ inputs[sound]).flatten(1).double()
        torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_products_of_patches_follow_from_those_of_pixels(data: st.DataObject) -> None:
    axes = data.draw(st.integers(1, 3))

    def number(low: int, high: int) -> tuple[int, ...]:
        return tuple(data.draw(st.integers(low, high)) for _ in range(axes))

    window = Window(
        kernel=number(1, 3), stride=number(1, 2), padding=number(0, 2), dilation=number(1, 2)
    )
    space, (patients, records) = number(5, 6), (2, data.draw(st.integers(1, 2)))
    maps = torch.randn(patients, records, 2, *space, dtype=torch.float64)
    patches = window.patches(maps.flatten(0, 1), torch.float64).unflatten(0, (patients, records))
    each = patches.flatten(1, 2)
    torch.testing.assert_close(window.gram(maps), each @ each.mT, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("magnitude", [1e-45, 1e-38, 1e-20, 1.0, 1e20, 3e38])
def test_norms_hold_over_all_of_float32(magnitude: float) -> None:
    torch.manual_seed(0)
    outputs, inputs = torch.rand(2, 3, 4) * magnitude, torch.rand(2, 3, 5) * magnitude
    squares, _ = Factors(outputs, inputs, None, _owners([1, 1])).squares()
    exact = (outputs.double().mT @ inputs.double()).square().sum(dim=(1, 2))
    torch.testing.assert_close(squares, exact, rtol=1e-12, atol=0.0)


def test_the_error_of_a_norm_whose_terms_cancel_is_told() -> None:
    """Two positions with opposite gradients at nearly equal inputs: what is left is rounding."""
    torch.manual_seed(0)
    at = torch.randn(1, 1, 64)
    outputs = torch.cat([at, -at], dim=1)
    inputs = torch.randn(1, 1, 64).repeat(1, 2, 1)
    inputs[0, 1, 0] *= 1 + 1e-6
    factors = Factors(outputs, inputs, None, _owners([1]))
    (square,), (error,) = factors.squares()
    exact = (outputs.double().mT @ inputs.double()).square().sum()
    assert abs(square - exact) <= error
    assert error > 2.0**-20 * square
    assert factors.written(torch.tensor([0])).square().sum() == pytest.approx(
        float(exact), rel=1e-6
    )


class _Scaled(nn.Module):
    """A parameter that no layer uses, but the model's own code."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3)
        self.gain = nn.Parameter(torch.ones(3))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.gain * self.inner(rows)


class _Mixed(nn.Module):
    """A weight that a layer uses, and the model's own code as well."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.inner(rows) + self.inner.weight.sum()


class _Made(nn.Module):
    """A layer whose weight is made of parameters, and whose bias is one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.inner(rows)


class _Windows(nn.Module):
    """A layer that is given two inputs for each record."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 3)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.inner(rows.reshape(-1, 2)).reshape(len(rows), 2, 3).sum(dim=1)


@pytest.mark.parametrize(
    "module", [_Scaled(), _Mixed(), _Made(), _Windows()], ids=lambda m: type(m).__name__
)
def test_a_use_of_a_parameter_that_is_not_known_is_never_passed_over(module: nn.Module) -> None:
    module.zero_grad()
    inputs, labels = torch.randn(2, 4), torch.tensor([0, 1])
    with pytest.raises(UnknownUse):
        _found(module, inputs, labels, _owners([1, 1]))
    assert values_of_a_record(module, list(module.parameters()), (4,), torch.device("cpu")) is None
    assert all(p.grad is None for p in module.parameters())


def test_a_frozen_layer_is_left_to_torch_and_a_parameter_without_use_has_zeros() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    model.unused = nn.Parameter(torch.ones(2))
    model[0].weight.requires_grad_(False)
    inputs, labels = torch.randn(2, 4), torch.tensor([0, 1])
    record = RecordedPass([p for p in model.parameters() if p.requires_grad], _owners([1, 1]))
    with record:
        hidden = model[1](model[0](inputs))
        logits = model[2](hidden)
    functional.cross_entropy(logits, labels, reduction="sum").backward()
    unused, *others = record.gradients()
    assert not written(unused, torch.arange(2)).any()
    assert [size_of(one) for one in others] == [5, 15, 3]
