"""What an answer may hold: names, words and figures, kind by kind; all else is a release unpaid.

Stated here anew and in full. A hospital without declared public data gives no figure but the
constant 1 that Flower asks for, no time, no text, and of a model its parameters alone. A code is
one of a closed list, and keys are in no message.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from accounting.audit_gates import Gate
from accounting.vocabulary import SCHEMES
from clients.contract.faults import read_code
from clients.contract.kinds import Kind
from clients.contract.messages import ARRAYS, content_to_bytes
from clients.contract.shares import in_shares
from clients.models import build_model
from crypto.headers import SignedHeader
from crypto.parameters import HEAD_BYTES
from simulations.audit.gates import exact_gate
from simulations.audit.said import said_gates
from simulations.audit.wire import FIGURES

if TYPE_CHECKING:
    from flwr.app import Array

    from clients.contract.settings import Settings
    from clients.data import DatasetInfo
    from crypto.keys import Keys
    from simulations.audit.wire import Sent, Wire

#: Of a ciphertext's length, what is left when it is compressed.
_LEAST_SHARE = 0.98
_NOTHING: frozenset[str] = frozenset()
_OF_SUMS = frozenset({"sealed", "header", "snapshot"})
#: Kind -> arrays of an answer, but for a model's tensors and what a cut model shows.
_ARRAYS: Mapping[Kind, frozenset[str]] = {
    Kind.TRAIN: _OF_SUMS,
    Kind.FORWARD: frozenset({"snapshot"}),
    Kind.BACKWARD: frozenset({"sealed", "header"}),
    Kind.CONFIRM: frozenset({"header"}),
    Kind.VISIT: frozenset({"envelope", "header"}),
}
#: Kind -> what a cut model shows: without noise, also whose a row is and how it was clipped.
_SHOWN: Mapping[Kind, tuple[frozenset[str], frozenset[str]]] = {
    Kind.FORWARD: (frozenset({"activations"}), frozenset({"owners", "labels"})),
    Kind.HEAD: (frozenset({"feature-gradients"}), _NOTHING),
    Kind.BACKWARD: (_NOTHING, frozenset({"factors"})),
}
#: Kinds that may release a model.
_MODELS = frozenset({Kind.TRAIN, Kind.FORWARD, Kind.RELEASE, Kind.VISIT, Kind.RELEASE_CARRIED})
#: What a hospital whose data are public says how many seconds it took for.
_PHASES = frozenset({"sample", "gradient", "noise", "seal", "open", "step"})
_ROUND_WORDS = frozenset({"model-round", "snapshot-round"})
_WORDS: Mapping[Kind, frozenset[str]] = {
    Kind.JOIN: frozenset({"name", "offer", "pins", "presence"}),
    Kind.KEYS: frozenset({"name"}),
    Kind.REVEAL: frozenset({"name", "reveal"}),
    Kind.END: frozenset({"name"}),
    Kind.ANSWER: frozenset({"answer", "seeds"}),
    Kind.WITNESS: frozenset({"name", "standing", "header", "key"}),
    Kind.VOUCH: frozenset({"header", "key", "known"}),
    **dict.fromkeys((Kind.VISIT, Kind.RELEASE_CARRIED), _NOTHING),
}


def content_gates(
    wire: Wire, settings: Settings, info: DatasetInfo, keys: Keys | None
) -> list[Gate]:
    """Return the gates of what is in answers.

    Args:
        wire: of a run.
        settings: its settings.
        info: of its data; public.
        keys: of the training; None where there are none.
    """
    parameters = parameters_of(settings, info)
    strange = [
        f"{one.hospital}: the answer to {one.kind} at {one.place} {what}"
        for one in wire.sent
        if one.content is not None
        for what in _strange(one, settings, parameters, wire.names)
    ]
    codes = [
        f"{one.hospital} said {one.code!r} to {one.kind}"
        for one in wire.sent
        if one.content is None and not _is_code(one, settings)
    ]
    return [
        exact_gate("answers hold nothing else", strange),
        exact_gate("codes say nothing else", codes),
        exact_gate("no key is on the wire", list(_keys_on_the_wire(wire, keys))),
        exact_gate("what is random is drawn once", list(_drawn_twice(wire))),
        exact_gate("what is sealed is like noise", list(_readable(wire, settings))),
        exact_gate("what is sealed is hidden anew", list(_hidden_alike(wire, settings))),
        exact_gate("sizes tell nothing", list(_sizes(wire, settings))),
        *said_gates(wire, settings),
    ]


def parameters_of(settings: Settings, info: DatasetInfo) -> tuple[str, ...]:
    """Return the names of the parameters of the run's model, in order; anybody can build it."""
    module = build_model(settings, info, settings.public_seed)
    return tuple(name for name, _ in module.named_parameters())


def _strange(
    sent: Sent, settings: Settings, parameters: tuple[str, ...], hospitals: tuple[str, ...]
) -> Iterator[str]:
    assert sent.content is not None
    content, kind = sent.content, sent.kind
    private, public = settings.regime.private, settings.data.public
    shown, exact = _SHOWN.get(kind, (_NOTHING, _NOTHING))
    arrays = set(_ARRAYS.get(kind, _NOTHING))
    if "sealed" in arrays and in_shares(settings):
        arrays |= {f"envelope.{one}" for one in hospitals}
    arrays |= {f"layers.{one}" for one in (shown if private else shown | exact)}
    if kind in _MODELS:
        arrays |= {f"model.{one}" for one in parameters}
    for name in sorted(set(content.array_records.get(ARRAYS, {})) - arrays):
        yield f"holds an array {name!r}"
    words = _WORDS.get(kind, _ROUND_WORDS)
    if kind is Kind.LEAD:
        words = frozenset({"public", *hospitals})
    for name in sorted(set(dict(content.config_records.get("config", {}))) - words):
        yield f"says {name!r}"
    for name in sorted(set(content) - {ARRAYS, "config", "metrics", *(["phases"] * public)}):
        yield f"holds a record {name!r}"
    for name in sorted(set(dict(content.metric_records.get("phases", {}))) - _PHASES):
        yield f"gives seconds of {name!r}"
    figures = dict(content.metric_records.get("metrics", {}))
    if figures and figures != {"num-examples": 1} and not (public and kind in FIGURES):
        yield f"gives figures {figures}, expected num-examples 1 alone"


def _is_code(sent: Sent, settings: Settings) -> bool:
    """Whether a code is on the list, and a number in it no more than a round."""
    if read_code(sent.code) is None:
        return False
    _, _, parameter = sent.code.partition(":")
    return not parameter.isdecimal() or int(parameter) <= settings.training.rounds


def _readable(wire: Wire, settings: Settings) -> Iterator[str]:
    """Yield what is sealed and can be made smaller, as no ciphertext can."""
    names = {"snapshot", "envelope", *(f"envelope.{one}" for one in wire.names)}
    if SCHEMES[settings.sealing.scheme].hides:
        names.add("sealed")
    for sent, name, array in _arrays_of(wire):
        if name in names and len(zlib.compress(array.data)) < _LEAST_SHARE * len(array.data):
            yield f"{sent.hospital}: {name} in the answer to {sent.kind} at {sent.place}"


def _hidden_alike(wire: Wire, settings: Settings) -> Iterator[str]:
    """Yield where two places were sealed with some of the same randomness.

    What hides a vector, or the seed of it, travels beside it: eight equal bytes in the same place
    of two sealings are chance once in 2^64. Their difference is that of two updates, in the open.
    """
    if not SCHEMES[settings.sealing.scheme].hides:
        return
    bodies: dict[tuple[str, tuple[int, int]], bytes] = {}
    for sent, name, array in _arrays_of(wire):
        if name == "sealed":
            bodies.setdefault((sent.hospital, sent.place), array.data[HEAD_BYTES:])
    names = [f"{hospital} at {place}" for hospital, place in bodies]
    whole = min((len(one) // 8 for one in bodies.values()), default=0)
    words = [np.frombuffer(one, dtype="<u8", count=whole) for one in bodies.values()]
    for number, one in enumerate(words):
        for other in range(number):
            if alike := int((one == words[other]).sum()):
                yield f"{names[number]} and {names[other]} have {alike} words of 8 bytes in common"


def _sizes(wire: Wire, settings: Settings) -> Iterator[str]:
    """Yield arrays of another size than the hospital's before: a batch's size must not show."""
    if not settings.regime.private:
        return
    known: dict[tuple[str, Kind, str], tuple[int, ...]] = {}
    for sent, name, array in _arrays_of(wire):
        if name in ("header", "snapshot"):
            continue  # they hold numbers of rounds and lines, as text
        size = (*array.shape, len(array.data))
        if known.setdefault((sent.hospital, sent.kind, name), size) != size:
            yield f"{sent.hospital}: {name} in the answer to {sent.kind} at {sent.place}: {size}"


def _arrays_of(wire: Wire) -> Iterator[tuple[Sent, str, Array]]:
    for sent in wire.sent:
        if sent.content is not None and ARRAYS in sent.content.array_records:
            for name, array in sent.content.array_records[ARRAYS].items():
                yield sent, name, array


def _drawn_twice(wire: Wire) -> Iterator[str]:
    """Yield nonces that two places have in common; a copy of a folder draws its own as well."""
    known: dict[bytes, tuple[str, bytes]] = {}
    answers = [(one, "") for one in wire.sent] + [(one, "'s copy") for one in wire.copied]
    for sent, whose in answers:
        if sent.content is None or ARRAYS not in sent.content.array_records:
            continue
        header = sent.content.array_records[ARRAYS].get("header")
        if header is None or sent.kind not in (Kind.TRAIN, Kind.BACKWARD):
            continue
        where = f"{sent.hospital}{whose} at {sent.place}"
        nonce = SignedHeader.from_bytes(header.data).header.nonce
        other, data = known.setdefault(nonce, (where, header.data))
        # What is sent once more is the same to the byte.
        if nonce and (other != where or data != header.data):
            yield f"{where} and {other} have a nonce in common"


def _keys_on_the_wire(wire: Wire, keys: Keys | None) -> Iterator[str]:
    if keys is None:
        return
    middle = len(keys.secret) // 2  # its beginning is the public parameters
    secrets = {"the group key": keys.group_key, "the secret key": keys.secret[middle : middle + 64]}
    for sent in wire.sent:
        if sent.content is None:
            continue
        data = content_to_bytes(sent.content)
        for name, secret in secrets.items():
            if secret and secret in data:
                yield f"{sent.hospital}: the answer to {sent.kind} holds {name}"
