"""A trained model as a program for private inference: public layers, and the provider's weights.

    compiled = compile_model(read_artefact(Path("predictor.safetensors")))
    compiled.program         # what patient and dealer may know
    compiled.weights         # what the provider keeps

Constant first layers (centring, colours) are the patient's to apply: `gain` and `offset` of each
channel. The temperature and the centring of logits are in the last layer's weights, so that what is
opened are logits of calibrated probabilities that add up to zero. ReLU changes places with a
maximum that follows, which changes nothing and compares less.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clients.contract.model_settings import PRETRAINED
from clients.models.catalogue import imports
from clients.models.deep import Residual
from clients.models.small import Centre
from clients.models.squeezenet import Colours, Fire
from clients.prediction.artefact import Artefact, ArtefactError
from clients.prediction.doubt import UNKNOWN
from clients.prediction.predictor import Predictor, require_classes
from crypto.inference.activations import Relu, Tanh
from crypto.inference.answers import Favourite, Logits
from crypto.inference.joining import Addition, Concatenation, Flattening, Truncation
from crypto.inference.layers import Layer
from crypto.inference.normalising import SCALE, GroupNorm, Scaling
from crypto.inference.pooling import Maximum, Mean, windows_of
from crypto.inference.programs import Program
from crypto.inference.weighted import Convolution, Linear, Weights
from crypto.inference.words import FRACTION

Answer = Literal["probabilities", "class"]
Plain = Weights | Scaling


@dataclass(frozen=True)
class Compiled:
    """A model that can be shared.

    Attributes:
        program: its public layers.
        weights: by the number of their layer; the provider's.
        gain: of each channel: what is shared is pixel * gain + offset.
        offset: likewise.
        features: name of fixed features that the patient computes; "" for none.
    """

    program: Program
    weights: Mapping[str, Plain] = field(repr=False)
    gain: tuple[float, ...]
    offset: tuple[float, ...]
    features: str

    def prepared(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what a patient shares, [*program.shape], of one record as it was read."""
        return prepared(inputs, self.program.shape, self.gain, self.offset)


def prepared(
    inputs: NDArray[Any], shape: tuple[int, ...], gain: tuple[float, ...], offset: tuple[float, ...]
) -> NDArray[np.float64]:
    """Return a record as a program takes it: gain and offset applied to each channel.

    Args:
        inputs: [channels, ...]; one channel serves for several gains.
        shape: of the program's input.
        gain: one number, or one for each channel.
        offset: likewise.
    """
    sides = (-1,) + (1,) * (inputs.ndim - 1)
    scaled = inputs.astype(np.float64) * np.reshape(gain, sides) + np.reshape(offset, sides)
    return np.asarray(scaled.reshape(shape))


@dataclass(frozen=True)
class _Value:
    """A value while compiling: its number, bits after the point, and whether a ReLU is due."""

    number: int
    bits: int = FRACTION
    relu: bool = False


class _Compiler:
    """Walks through modules and lists layers."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.layers: list[Layer] = []
        self.weights: dict[str, Plain] = {}
        self.shapes: list[tuple[int, ...]] = [shape]

    def add(self, layer: Layer, bits: int) -> _Value:
        """List a layer."""
        self.layers.append(layer)
        self.shapes.append(layer.result(*(self.shapes[one] for one in layer.inputs)))
        return _Value(len(self.layers), bits)

    def settled(self, value: _Value) -> _Value:
        """Return a value with FRACTION bits and no ReLU due."""
        more = value.bits - FRACTION
        if value.relu:
            return self.add(Relu(inputs=(value.number,), shift=more), FRACTION)
        if more:
            return self.add(Truncation(inputs=(value.number,), shift=more), FRACTION)
        return value

    def module(self, module: nn.Module, value: _Value) -> _Value:
        """List the layers of a module.

        Raises:
            ArtefactError: one of them has no private counterpart.
        """
        for kind, rule in _RULES.items():
            if isinstance(module, kind):
                return rule(self, module, value)
        raise ArtefactError(f"a layer {type(module).__name__} cannot be computed on shares")

    def matrix(self, module: Any, value: _Value, layer: Layer) -> _Value:
        """List a layer with weights."""
        matrix = module.weight.detach().double().numpy().reshape(module.weight.shape[0], -1)
        bias = np.zeros(len(matrix)) if module.bias is None else module.bias.detach().double()
        made = self.add(layer, 2 * FRACTION)
        self.weights[str(made.number)] = Weights.of(
            matrix, np.asarray(bias), f"layer {made.number}"
        )
        return made


def _sequence(self: _Compiler, module: Any, value: _Value) -> _Value:
    for part in module:
        value = self.module(part, value)
    return value


def _convolution(self: _Compiler, module: Any, value: _Value) -> _Value:
    if module.groups != 1 or module.dilation != (1, 1) or module.padding_mode != "zeros":
        raise ArtefactError("grouped, dilated or wrapped convolutions cannot be computed on shares")
    value = self.settled(value)
    layer = Convolution(
        inputs=(value.number,),
        out=module.out_channels,
        kernel=module.kernel_size,
        stride=module.stride,
        padding=module.padding,
    )
    return self.matrix(module, value, layer)


def _linear(self: _Compiler, module: Any, value: _Value) -> _Value:
    value = self.settled(value)
    return self.matrix(module, value, Linear(inputs=(value.number,), out=module.out_features))


def _relu(self: _Compiler, module: Any, value: _Value) -> _Value:
    return replace(value, relu=True)


def _tanh(self: _Compiler, module: Any, value: _Value) -> _Value:
    value = self.settled(value) if value.relu else value
    return self.add(Tanh(inputs=(value.number,), shift=value.bits - FRACTION), FRACTION)


def _maximum(self: _Compiler, module: Any, value: _Value) -> _Value:
    layer = Maximum(
        inputs=(value.number,),
        kernel=module.kernel_size,
        stride=module.stride,
        padding=module.padding,
        ceil=int(module.ceil_mode),
    )
    return replace(self.add(layer, value.bits), relu=value.relu)


def _mean(self: _Compiler, module: Any, value: _Value) -> _Value:
    value = self.settled(value)
    sides = self.shapes[value.number][1:]
    if isinstance(module, nn.AdaptiveAvgPool2d):
        out = module.output_size
        if not isinstance(out, int):
            raise ArtefactError(f"an adaptive mean of {out} windows; expected one number")
        rows, columns = (windows_of(side, out=out) for side in sides)
    else:
        size, step = module.kernel_size, module.stride
        rows, columns = (windows_of(side, kernel=size, stride=step) for side in sides)
    return self.add(Mean(inputs=(value.number,), rows=rows, columns=columns), FRACTION)


def _group_norm(self: _Compiler, module: Any, value: _Value) -> _Value:
    value = self.settled(value)
    layer = GroupNorm(inputs=(value.number,), groups=module.num_groups, epsilon=module.eps)
    made = self.add(layer, FRACTION + SCALE)
    factor, offset = (one.detach().double().numpy() for one in (module.weight, module.bias))
    self.weights[str(made.number)] = Scaling.of(factor, offset)
    return made


def _flatten(self: _Compiler, module: Any, value: _Value) -> _Value:
    return replace(self.add(Flattening(inputs=(value.number,)), value.bits), relu=value.relu)


def _fire(self: _Compiler, module: Any, value: _Value) -> _Value:
    squeezed = self.settled(_relu(self, None, _convolution(self, module.squeeze, value)))
    sides = [_convolution(self, part, squeezed) for part in (module.expand1x1, module.expand3x3)]
    joined = Concatenation(inputs=tuple(side.number for side in sides))
    return _relu(self, None, self.add(joined, sides[0].bits))


def _residual(self: _Compiler, module: Any, value: _Value) -> _Value:
    start = self.settled(value)
    inner = _group_norm(self, module.norm1, _convolution(self, module.conv1, start))
    inner = _convolution(self, module.conv2, _relu(self, None, inner))
    inner = _group_norm(self, module.norm2, inner)
    beside = self.module(module.shortcut, start)
    added = Addition(inputs=(inner.number, beside.number), shifts=(0, inner.bits - beside.bits))
    return _relu(self, None, self.add(added, inner.bits))


def _nothing(self: _Compiler, module: Any, value: _Value) -> _Value:
    return value


_RULES: dict[type[nn.Module], Callable[[_Compiler, Any, _Value], _Value]] = {
    nn.Sequential: _sequence,
    nn.Conv2d: _convolution,
    nn.Linear: _linear,
    nn.ReLU: _relu,
    nn.Tanh: _tanh,
    nn.MaxPool2d: _maximum,
    nn.AvgPool2d: _mean,
    nn.AdaptiveAvgPool2d: _mean,
    nn.GroupNorm: _group_norm,
    nn.Flatten: _flatten,
    nn.Identity: _nothing,
    Fire: _fire,
    Residual: _residual,
}


#: Rows of the table of models that can be computed on shares.
TAKEN = (
    "logistic",
    "mlp",
    "cnn",
    "scattering",
    "scattering-pyramid",
    "squeezenet",
    "resnet18",
)


def compile_model(artefact: Artefact, answer: Answer = "probabilities") -> Compiled:
    """Return a model as a program and its weights.

    Args:
        artefact: the model; of one member.
        answer: what is opened to the patient.

    Raises:
        ArtefactError: it has several members, or is none that can be computed on shares.
        PrecisionError: its weights are not finite, or too large.
    """
    require_classes(artefact)
    name = artefact.architecture
    on_net = name.startswith(PRETRAINED) and not imports(name)
    if name not in TAKEN and not on_net:
        raise ArtefactError(
            f"{name} is not computed on shares; private inference takes {', '.join(TAKEN)}, and "
            "heads on the pretrained nets of the table"
        )
    if artefact.tuned_stages:
        raise ArtefactError(
            f"{artefact.tuned_stages} stages of {name} were trained with its head; private "
            "inference takes heads on frozen nets alone, whose features a patient computes"
        )
    if len(artefact.members) != 1:
        raise ArtefactError(
            f"{len(artefact.members)} models decide together here; private inference takes one: "
            "predictor.safetensors of a run, not iterates.safetensors or an ensemble"
        )
    predictor = Predictor(artefact)
    (module,) = predictor.modules.values()
    features = name if predictor.architecture.features else ""
    shape = predictor.architecture.input_shape(artefact.info)
    temperature = artefact.doubt.temperature
    return compile_layers(list(module.children()), shape, temperature, answer, features)


def public_part(artefact: Artefact) -> Artefact:
    """Return what a patient computes features by: the model with its own weights taken out."""
    nothing = {
        member: {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        for member, state in artefact.members.items()
    }
    return replace(artefact, members=nothing, doubt=UNKNOWN, about={})


def compile_layers(
    parts: Sequence[nn.Module],
    shape: tuple[int, ...],
    temperature: float = 1.0,
    answer: Answer = "probabilities",
    features: str = "",
) -> Compiled:
    """Return modules that follow each other as a program and its weights.

    Args:
        parts: the last of them with weights is the head, which makes the logits.
        shape: of a record, as the first of them takes it.
        temperature: logits are divided by it.
        answer: what is opened.
        features: name of fixed features that the patient computes first.
    """
    gain, offset, shared = _public_start(parts[0], shape)
    compiler = _Compiler(shared)
    start = 1 if isinstance(parts[0], Centre | Colours) else 0
    value = _sequence(compiler, _calibrated(parts[start:], temperature), _Value(0))
    value = compiler.settled(value)
    opened = Favourite if answer == "class" else Logits
    compiler.add(opened(inputs=(value.number,)), FRACTION)
    program = Program(shared, tuple(compiler.layers))
    return Compiled(program, compiler.weights, gain, offset, features)


def _public_start(
    first: nn.Module, shape: tuple[int, ...]
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[int, ...]]:
    """Return gain, offset and the shape that they lead to, for a constant first layer."""
    if isinstance(first, Centre):
        return (1 / first.radius,), (-first.middle / first.radius,), shape
    if isinstance(first, Colours):
        mean, std = (one.double().flatten().numpy() for one in (first.mean, first.std))
        return tuple(1 / std), tuple(-mean / std), (len(mean), *shape[1:])
    return (1.0,), (0.0,), shape


def _calibrated(parts: Sequence[nn.Module], temperature: float) -> nn.Module:
    """Return a copy of private layers, with temperature and centring in the head's weights."""
    private = copy.deepcopy(nn.Sequential(*parts))
    head = [one for one in private.modules() if isinstance(one, nn.Linear | nn.Conv2d)][-1]
    with torch.no_grad():
        for tensor in (head.weight, head.bias):
            if tensor is not None:
                tensor -= tensor.mean(dim=0, keepdim=True)
                tensor /= temperature
    return private
