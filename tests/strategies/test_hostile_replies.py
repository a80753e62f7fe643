"""One hospital answers with whatever it likes: it is named, nobody else is, and the run goes on."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import (
    Array,
    Context,
    Message,
    RecordDict,
)

from clients.contract.kinds import Kind
from clients.contract.messages import METRICS, PHASES, bytes_to_array
from clients.contract.terms import hospitals_expected
from strategies.errors import TrainingStopped
from tests.exchange_runs import read_json, recorded
from tests.in_process import InProcessGrid, hospital_of, server_app, small_settings
from tests.strategies.lies import (
    HUGE,
    Change,
    as_objects,
    empty,
    every_array,
    every_value,
    every_word,
    flipped,
    lying_header,
    offer_of_a_stranger,
    only_config,
    other_shape,
    saying,
    silent,
    with_arrays,
    with_config,
    with_metrics,
    with_whole,
    wordy_error,
)

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

SUMS = {"sealing__scheme": "modular", "privacy__dropouts": 1, "training__release_every": 1}
SHARED = {**SUMS, "sealing__scheme": "one-time", "partition__hospitals": 5}
VISITS = {"exchange__name": "cyclic", "privacy__regime": "FPDP", "training__rounds": 2}
ENSEMBLE = {**VISITS, "exchange__name": "ensemble"}
LAYERS = {
    "exchange__name": "layers",
    "privacy__regime": "FPDP",
    "privacy__dropouts": 1,
    "model__name": "mlp",
    "training__sampling_rate": 0.5,
    "training__rounds": 2,
}
#: Without noise the server also gets labels, owners and clip factors.
EXACT = {**LAYERS, "privacy__regime": "F", "privacy__noise_multiplier": 0.0}
LABELS = {**EXACT, "exchange__labels": "server", "exchange__cut": "act"}


@dataclass(frozen=True)
class Case:
    """What one hospital makes of its replies of a kind."""

    kind: Kind
    name: str
    change: Change
    changes: dict[str, object]
    #: Whether a run can go on without the hospital.
    goes_on: bool = True
    liar: str = "hospital-03"


JUNK = bytes_to_array(b"\0" * 700)
NOTHING: dict[str, Change] = {"nothing": empty, "an error of many words": wordy_error}
ANYWHERE: dict[str, Change] = {
    **NOTHING,
    "lists for words": every_word([1, 2]),
    "huge numbers for words": every_word(HUGE),
}
MODEL: dict[str, Change] = {
    "a model of another shape": every_array(other_shape, "model."),
    "a model that is not finite": every_value(math.nan, "model."),
    "a model of doubles": every_array(lambda a: Array(a.numpy().astype(np.float64)), "model."),
    "a model that says it is huge": every_array(lying_header, "model."),
    "a model of objects": every_array(as_objects, "model."),
    "a model of raw bytes": every_array(lambda _: JUNK, "model."),
    "a tensor too many": with_arrays(model__extra=Array(np.zeros(3, dtype=np.float32))),
}
ROUND: dict[str, Change] = {
    "no arrays": only_config,
    "no header": with_arrays(header=None),
    "a junk header": with_arrays(header=JUNK),
    "a changed header": every_array(flipped, "header"),
}


def cases() -> list[Case]:
    """Every hostile reply of every kind."""
    found: list[Case] = []

    def add(
        kind: Kind, named: dict[str, Change], changes: dict[str, object], **more: object
    ) -> None:
        found.extend(Case(kind, name, change, changes, **more) for name, change in named.items())  # type: ignore[arg-type]

    first = {"liar": "hospital-00"}
    join = {
        "an offer that is a number": with_config(offer=HUGE),
        "an offer that is junk": with_config(offer=b"{}" * 99),
        "an endless offer": with_config(offer=b"x" * 10**6),
        "an offer under another's signature": offer_of_a_stranger,
        "another name": with_config(name="hospital-09"),
        "a name of a million letters": with_config(name="x" * 10**6),
        "an offer and a presence": with_config(presence=b"x"),
    }
    add(Kind.JOIN, {**ANYWHERE, **join}, SUMS, goes_on=False)
    lead = {
        "a public part that is junk": with_config(public=b"junk"),
        "no keys for one": with_config(**{"hospital-02": None}),
        "other keys for one": with_config(**{"hospital-02": b"x" * 100}),
        "keys for a stranger": with_config(stranger=b"x"),
        "silence": silent,
    }
    add(Kind.LEAD, {**ANYWHERE, **lead}, SUMS, **first)
    add(Kind.KEYS, {**ANYWHERE, "another name": with_config(name="x")}, SUMS, goes_on=False)
    train = {
        "a changed vector": every_array(flipped, "sealed"),
        "a vector that is junk": with_arrays(sealed=JUNK),
        "an endless vector": with_arrays(sealed=bytes_to_array(b"x" * 10**7)),
        "rounds that are words": with_config(**{"model-round": "x", "snapshot-round": "y"}),
        "negative rounds": with_config(**{"model-round": -1}),
        "seconds that are lists": with_metrics(PHASES, gradient=[1.0, 2.0]),
        "seconds that are not finite": with_metrics(PHASES, gradient=math.inf),
        "a round far away": saying("behind:4294967296"),
        "behind for ever": saying("behind:0"),
    }
    add(Kind.TRAIN, {**ANYWHERE, **ROUND, **train}, SUMS)
    envelopes = {
        "no envelopes": every_array(lambda _: None, "envelope."),
        "changed envelopes": every_array(flipped, "envelope."),
        "short envelopes": every_array(lambda _: JUNK, "envelope."),
        "endless envelopes": every_array(lambda _: bytes_to_array(b"x" * 10**6), "envelope."),
        "an envelope for a stranger": with_arrays(envelope__stranger=JUNK),
        "a changed vector beside shares": every_array(flipped, "sealed"),
    }
    add(Kind.TRAIN, envelopes, SHARED)
    add(Kind.TRAIN, {"envelopes that nobody holds": with_arrays(envelope__x=JUNK)}, SUMS)
    answers = {
        "a short answer": with_config(answer=b"x"),
        "an endless answer": with_config(answer=b"x" * 10**7),
        "no answer": with_config(answer=None),
        "an answer of nothing": with_config(answer=bytes(8244)),
        "shares of a stranger": saying("share-refused:9999"),
        "silence": silent,
    }
    add(Kind.ANSWER, {**ANYWHERE, **answers}, SHARED)
    add(Kind.CONFIRM, {**ANYWHERE, **ROUND, "a round far away": saying("behind:4294967296")}, SUMS)
    release = {
        "no model": only_config,
        "another round": with_config(**{"model-round": 1}),
    }
    add(Kind.RELEASE, {**ANYWHERE, **MODEL, **release}, SUMS, **first)
    figures = {
        "figures that are lists": with_metrics(METRICS, accuracy=[1.0]),
        "figures that are not finite": with_metrics(METRICS, accuracy=math.inf),
        "a measure of its own": with_metrics(METRICS, patients=17),
    }
    add(Kind.EVALUATE, {"nothing": empty, **figures}, SUMS)
    visit = {
        "no model": with_arrays(envelope=None, header=None),
        "a changed model": every_array(flipped, "envelope"),
        "an endless model": with_arrays(envelope=bytes_to_array(b"x" * 10**7)),
    }
    add(Kind.VISIT, {**NOTHING, **ROUND, **MODEL, **visit}, VISITS)
    add(Kind.VISIT, {f"alone, {name}": change for name, change in MODEL.items()}, ENSEMBLE)
    turns = {
        "numbers that are not finite": every_value(math.inf, "layers."),
        "another shape": every_array(other_shape, "layers."),
        "a shape that says it is huge": every_array(lying_header, "layers."),
        "objects": every_array(as_objects, "layers."),
        "no array": every_array(lambda _: JUNK, "layers."),
    }
    no_rows = every_array(lambda a: Array(a.numpy()[:0]), "layers.")
    add(Kind.FORWARD, {**ANYWHERE, **turns, "no rows": no_rows}, LAYERS)
    add(Kind.HEAD, {**NOTHING, **turns, "no rows": no_rows}, LAYERS)
    add(Kind.BACKWARD, {**ANYWHERE, **ROUND}, LAYERS)
    whole = np.dtype(np.int64)
    owners = {
        "huge owners": with_whole("layers.owners", HUGE, whole),
        "negative owners": with_whole("layers.owners", -1, whole),
        "owners with a point": with_whole("layers.owners", 0.5, np.dtype(np.float64)),
        "no owners": with_arrays(layers__owners=None),
    }
    add(Kind.FORWARD, owners, EXACT)
    labels = {"labels of no class": with_whole("layers.labels", 7, whole)}
    add(Kind.FORWARD, labels, LABELS)
    factors = {
        "factors that are not finite": every_value(math.nan, "layers."),
        "huge factors": every_value(1e300, "layers."),
        "negative factors": every_value(-1.0, "layers."),
        "no factors": with_arrays(layers__factors=None),
    }
    add(Kind.BACKWARD, factors, EXACT)
    return found


CASES = cases()


class Liar:
    """Changes every reply of a kind that one hospital gives, and counts them."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self.told = 0

    def __call__(self, message: Message, reply: Message | None) -> Message | None:
        case = self._case
        mine = message.metadata.message_type == case.kind and hospital_of(message) == case.liar
        if reply is None or not mine or reply.has_error():
            return reply or message
        self.told += 1
        changed = case.change(reply.content)
        return None if changed is None else Message(changed, reply_to=message)


def run_with(case: Case, path: Path) -> tuple[Liar, str]:
    """Run the real server against three honest hospitals and a liar; how it ended."""
    settings = small_settings(path, run__attempts=2, **case.changes)
    config, liar = settings.to_config(), Liar(case)
    grid = InProcessGrid(config, hospitals_expected(settings), liar)
    context = Context(run_id=5, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    try:
        server_app(grid, context)
    except TrainingStopped as stopped:
        return liar, str(stopped)
    return liar, ""


#: Lies that no other kind of message has, of which `make test-all` runs the rest.
SHARES = {"changed envelopes", "an answer of nothing", "shares of a stranger"}


def sampled() -> list[Any]:
    """Each lie once, and each kind of message with two; the rest is run by `make test-all`."""
    told: set[str] = set()
    asked: Counter[tuple[Kind, int]] = Counter()
    found: list[Any] = []
    for case in CASES:
        kind = case.kind, id(case.changes)
        new = case.name not in told if case.changes is not SHARED else case.name in SHARES
        if new or (case.changes is not SHARED and asked[kind] < 2):
            told.add(case.name)
            asked[kind] += 1
            found.append(case)
        else:
            found.append(pytest.param(case, marks=pytest.mark.exhaustive))
    return found


@pytest.mark.parametrize("case", sampled(), ids=lambda case: f"{case.kind}: {case.name}")
def test_a_hostile_reply_is_its_senders_alone(tmp_path: Path, case: Case) -> None:
    liar, message = run_with(case, tmp_path)
    assert liar.told
    settings = small_settings(tmp_path, **case.changes)
    status = read_json(settings, "summary.json")["status"]
    assert "tumour" not in "".join(path.read_text() for path in tmp_path.glob("*.json*"))
    if not case.goes_on:
        # All are needed for the keys: the run ends in order, and says whose answer was none.
        node = 1000 + 7 * int(case.liar[-2:])
        assert status == "stopped"
        assert case.liar in message or f"node {node}" in message
        assert not any(f"hospital-0{k}:" in message for k in range(3))
        return
    assert (status, message) == ("finished", "")
    assert {row["hospital"] for row in recorded(settings, "fault")} == {case.liar}


def test_there_are_many_kinds_of_lies() -> None:
    assert len(CASES) >= 60
    assert len({(case.kind, case.name, id(case.changes)) for case in CASES}) == len(CASES)


@pytest.mark.parametrize(
    "changes",
    [
        SUMS,
        VISITS,
        *(pytest.param(one, marks=pytest.mark.exhaustive) for one in (ENSEMBLE, LAYERS, EXACT)),
        LABELS,
    ],
)
def test_the_same_runs_without_a_liar_have_no_fault(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    """Negative control."""
    honest = Case(Kind.TRAIN, "", lambda content: content, changes)
    _, message = run_with(honest, tmp_path)
    settings = small_settings(tmp_path, **changes)
    assert message == ""
    assert recorded(settings, "fault") == []
