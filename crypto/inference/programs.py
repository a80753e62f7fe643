"""Programs: the public list of layers of a shared model, dealt for and run layer by layer.

    program = read_program({"shape": [3, 64, 64], "layers": [{"kind": "convolution", ...}, ...]})
    materials = program.deal(source)           # the dealer's, the provider's or the patient's
    answer = program.run(party, materials, share)

A program comes from the provider. Whoever else reads it checks it whole before acting on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from math import prod
from typing import Any

from crypto.inference.activations import Relu, Tanh
from crypto.inference.answers import Favourite, Logits
from crypto.inference.joining import Addition, Concatenation, Flattening, Truncation
from crypto.inference.layers import MOST_VALUES, Layer, ProgramError, need
from crypto.inference.normalising import GroupNorm
from crypto.inference.parties import Party
from crypto.inference.pooling import Maximum, Mean
from crypto.inference.sources import Draws, Source
from crypto.inference.weighted import Convolution, Linear
from crypto.inference.words import Shape, Words

_KINDS: tuple[type[Layer], ...] = (
    Convolution, Linear, Truncation, Addition, Concatenation, Flattening, Relu, Tanh, Maximum, Mean,
    GroupNorm, Logits, Favourite,
)  # fmt: skip
LAYERS: Mapping[str, type[Layer]] = {layer.kind: layer for layer in _KINDS}
#: Layers and weights that a program may have.
MOST_LAYERS, MOST_WEIGHTS = 1000, 1 << 27


@dataclass(frozen=True)
class Program:
    """A checked program.

    Attributes:
        shape: of what the patient shares.
        layers: in the order in which they run; the last opens the answer.
    """

    shape: Shape
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        need(0 < len(self.layers) <= MOST_LAYERS, f"a program of {len(self.layers)} layers")
        weights = sum(prod(shape) for shape in self.weight_shapes().values())
        need(weights <= MOST_WEIGHTS, f"a program with {weights} weights")
        opening = [isinstance(layer, Logits | Favourite) for layer in self.layers]
        need(opening[-1] and sum(opening) == 1, "a program opens its last layer and no other")

    def shapes(self) -> list[Shape]:
        """Return the shape of the input and of what each layer makes.

        Raises:
            ProgramError: a layer takes other inputs than it gets; it is named.
        """
        made = [self._sized(self.shape, "the input")]
        for number, layer in enumerate(self.layers, start=1):
            place = f"layer {number} ({layer.kind})"
            need(
                bool(layer.inputs) and all(0 <= one < number for one in layer.inputs),
                f"{place} takes values {layer.inputs}; expected numbers below {number}",
            )
            try:
                made.append(self._sized(layer.result(*self._of(made, layer)), "it"))
            except ProgramError as error:
                raise ProgramError(f"{place}: {error}") from None
        return made

    @staticmethod
    def _sized(shape: Shape, what: str) -> Shape:
        need(bool(shape) and min(shape) > 0 and prod(shape) <= MOST_VALUES, f"{what} has {shape}")
        return shape

    @staticmethod
    def _of(values: list[Any], layer: Layer) -> list[Any]:
        return [values[number] for number in layer.inputs]

    def weight_shapes(self) -> dict[str, Shape]:
        """Return the shapes of masked weights, by the number of their layer."""
        made = self.shapes()
        found = {
            str(number): layer.weight_shape(*self._of(made, layer))
            for number, layer in enumerate(self.layers, start=1)
        }
        return {name: shape for name, shape in found.items() if shape is not None}

    def masks(self, seed: bytes) -> dict[str, Words]:
        """Return the masks of all weights, as dealer and provider expand them."""
        draws = Draws(seed)
        return {name: draws.take(shape) for name, shape in self.weight_shapes().items()}

    def deal(self, source: Source) -> Iterator[Any]:
        """Yield the material of each layer for one run."""
        made = self.shapes()
        for number, layer in enumerate(self.layers, start=1):
            yield layer.deal(source, str(number), *self._of(made, layer))

    def run(self, party: Party, materials: Iterable[Any], share: Words) -> Words:
        """Return the answer at the patient; at the provider an empty array.

        Args:
            party: who runs it.
            materials: of each layer, as `deal` yields them; of no other run.
            share: of the input.
        """
        values: list[Any] = [share.reshape(self.shape)]
        last_use = {one: number for number, layer in enumerate(self.layers) for one in layer.inputs}
        for number, (layer, material) in enumerate(zip(self.layers, materials, strict=True)):
            shares = self._of(values, layer)
            values.append(layer.run(party, str(number + 1), material, *shares))
            for one in layer.inputs:
                if last_use[one] == number:
                    values[one] = None
        answer: Words = values[-1]
        return answer

    def to_json(self) -> dict[str, Any]:
        """Return the program as JSON-ready data."""
        layers = [{"kind": layer.kind, **asdict(layer)} for layer in self.layers]
        return {"shape": list(self.shape), "layers": layers}


def read_program(data: Any) -> Program:
    """Return a program that came from elsewhere, checked whole.

    Raises:
        ProgramError: it is none.
    """
    need(isinstance(data, dict) and set(data) == {"shape", "layers"}, "no program at all")
    need(isinstance(data["layers"], list) and len(data["layers"]) <= MOST_LAYERS, "no layers")
    shape = _numbers(data["shape"])
    need(isinstance(shape, tuple) and all(isinstance(side, int) for side in shape), "no shape")
    return Program(shape, tuple(map(_read_layer, data["layers"])))


def _read_layer(data: Any) -> Layer:
    need(isinstance(data, dict), f"a layer that is {type(data).__name__}")
    kind = LAYERS.get(str(data.get("kind")))
    if kind is None:
        raise ProgramError(f"a layer {data.get('kind')!r}; known are {', '.join(LAYERS)}")
    known = {field.name: str(field.type) for field in fields(kind)}
    need(set(data) == {"kind", *known}, f"a {kind.kind} with fields {sorted(data)}")
    return kind(**{name: _typed(kind.kind, name, data[name], known[name]) for name in known})


def _typed(kind: str, name: str, value: Any, wanted: str) -> Any:
    """Return a field's value if it has the form that its type says."""
    if wanted == "float":
        need(isinstance(value, float), f"a {kind} whose {name} is {value!r}")
        return value
    made = _numbers(value)
    right = {
        "int": _is_number(made),
        "tuple[int, ...]": _is_row(made),
        "tuple[int, int]": _is_row(made, 2),
        "tuple[tuple[int, int], ...]": isinstance(made, tuple)
        and all(_is_row(one, 2) for one in made),
    }[wanted]
    need(right, f"a {kind} whose {name} is {value!r}; expected {wanted}")
    return made


def _is_row(value: Any, length: int | None = None) -> bool:
    return (
        isinstance(value, tuple)
        and (length is None or len(value) == length)
        and all(map(_is_number, value))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_VALUES


def _numbers(value: Any) -> Any:
    """Return lists as tuples, all the way down."""
    return tuple(map(_numbers, value)) if isinstance(value, list | tuple) else value
