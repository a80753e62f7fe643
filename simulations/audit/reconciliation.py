"""Reconciliation: what left each hospital, message by message, against what its own ledger says.

The rules are stated here anew, from the settings alone, and not asked of whoever wrote the ledgers:
how many noised messages about a patient an answer holds, with which sampling rate and which noise.
Every answer that holds something made from records must have its event in the hospital's ledger, on
the disk when it left; every event must have its answer, or a code that stands for it; and nothing
may be in an answer that has no place in it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from accounting.audit_gates import Gate
from accounting.errors import LedgerError
from accounting.ledger import read_ledger
from accounting.vocabulary import EXCHANGES
from clients.contract.kinds import Kind
from clients.contract.messages import ARRAYS, RoundReply, content_to_bytes
from crypto.parcels import Parcel
from simulations.audit.gates import exact_gate
from simulations.audit.ledgers import read_book
from simulations.audit.statements import claim_faults
from simulations.audit.wire import FIGURES, PRIVATE

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from simulations.audit.ledgers import Book, Paid
    from simulations.audit.wire import Sent, Wire

#: Turns of a round of `layers`, in order.
_TURNS = (Kind.FORWARD, Kind.HEAD, Kind.BACKWARD)


def cost_of(settings: Settings, noise_multiplier: float, asked: Sent) -> dict[str, Any]:
    """Return the event that one answer's place costs, as a ledger must have it."""
    name, rate = settings.exchange.name, settings.training.sampling_rate
    count = 1
    if name == "weights":
        count = settings.exchange.local_steps
    elif name == "layers":
        count, rate = len(_TURNS), 1.0
    elif EXCHANGES[name].travels:
        count = int(asked.asked.config_records["config"]["steps"])  # type: ignore[arg-type]
    if not settings.regime.private:
        return {"kind": "exact", "count": count}
    return {
        "kind": "gaussian",
        "sampling_rate": rate,
        "noise_multiplier": noise_multiplier,
        "count": count,
    }


def faced(settings: Settings, noise_multiplier: float) -> dict[str, float | None]:
    """Return the noise that observers face, in units of the clip: server, another hospital, both.

    A hospital that is in a sum knows its own share of the noise; so do d more that are missing.
    """
    least = _sharing(settings) - settings.privacy.dropouts
    if not settings.regime.private:
        return {"server": None, "hospital": None, "server+hospitals:1": None}
    if settings.privacy.regime == "CDP":
        return {"server": None, "hospital": noise_multiplier, "server+hospitals:1": None}
    if settings.privacy.regime == "FPDP":
        return dict.fromkeys(("server", "hospital", "server+hospitals:1"), noise_multiplier)
    share = share_of(settings, noise_multiplier)
    other = min(noise_multiplier, share * math.sqrt(max(1, least - 1)))
    # Under one-time keys no hospital can open an update for the server: both see sums alone.
    both = other if settings.sealing.scheme == "one-time" else share
    return {"server": noise_multiplier, "hospital": other, "server+hospitals:1": both}


def _sharing(settings: Settings) -> int:
    """Return how many hospitals' noise is in one sum: of a group, where it is opened apart."""
    everybody = 1 if settings.regime.pooled else settings.partition.hospitals
    return size if (size := settings.exchange.group_size) > 1 else everybody


def share_of(settings: Settings, noise_multiplier: float) -> float:
    """Return the noise that one hospital adds to what it sends, in units of the clip.

    Of K hospitals d may be missing and c may know their own: K - d - c shares make up sigma.
    """
    if settings.privacy.regime != "FSCDP":
        return noise_multiplier
    privacy = settings.privacy
    honest = _sharing(settings) - privacy.dropouts - privacy.colluders
    return noise_multiplier / math.sqrt(honest)


def reconcile(
    wire: Wire, settings: Settings, *, training: str, noise_multiplier: float
) -> list[Gate]:
    """Return the gates of one run: answers against ledgers, and what is in answers.

    Args:
        wire: what left.
        settings: of the run.
        training: its id.
        noise_multiplier: sigma, as the run says.
    """
    faults: dict[str, list[str]] = {name: [] for name in _NAMES}
    counts: list[int] = []
    for hospital in wire.names:
        sent = [one for one in wire.sent if one.hospital == hospital]
        try:
            book = read_book(wire.ledger(hospital), training)
        except LedgerError as error:
            faults["ledgers are whole"].append(f"{hospital}: {error}")
            continue
        private = [one for one in sent if one.kind in PRIVATE and one.content is not None]
        _hold_once(hospital, private, faults["a place is answered once"])
        for one in private:
            _hold_paid(one, book, settings, faults["what left was paid for before"])
            _hold_signed(one, book, faults["what left is what the ledger signed for"])
        again = [one for one in wire.again if one.hospital == hospital]
        _hold_again(private, again, faults["a place that is asked for again gives nothing new"])
        wrong = faults["events have the run's sampling rate, noise and count"]
        _hold_events(hospital, private, book, settings, noise_multiplier, wrong)
        faults["no event without an answer"] += _unanswered(hospital, sent, private, book, settings)
        faults["figures of public records have their lines"] += _unlisted(sent, book)
        counts.append(sum(int(one.event["count"]) for one in book.paid))
    faults["the server's ledger has each attempt"] += list(
        _server_faults(wire, settings, training, noise_multiplier)
    )
    faults["the run counts what its ledgers count"] += _miscounted(wire, settings, counts)
    faults["claims cover what ledgers cost"] += _underclaimed(
        wire, settings, noise_multiplier, counts
    )
    faults["the run's files tell nothing of single hospitals"] += _told_of_hospitals(wire, settings)
    return [exact_gate(name, found) for name, found in faults.items()]


#: What must hold of every run; a gate's faults are answers or lines of which it does not.
_NAMES = (
    "ledgers are whole",
    "a place is answered once",
    "a place that is asked for again gives nothing new",
    "what left was paid for before",
    "what left is what the ledger signed for",
    "events have the run's sampling rate, noise and count",
    "no event without an answer",
    "figures of public records have their lines",
    "the run counts what its ledgers count",
    "claims cover what ledgers cost",
    "the run's files tell nothing of single hospitals",
    "the server's ledger has each attempt",
)


def _hold_once(hospital: str, private: list[Sent], faults: list[str]) -> None:
    seen: dict[tuple[Kind, tuple[int, int]], bytes] = {}
    for one in private:
        assert one.content is not None
        data = content_to_bytes(one.content)
        if seen.setdefault((one.kind, one.place), data) != data:
            faults.append(f"{hospital} answered {one.kind} at {one.place} with two different texts")


def _hold_again(private: list[Sent], again: list[Sent], faults: list[str]) -> None:
    """Hold what was asked for twice against the first answer: the same bytes, or a code."""
    first = {(one.kind, one.place): one.content for one in reversed(private)}
    for one in again:
        before = first.get((one.kind, one.place))
        if one.content is None:
            continue
        if before is None or content_to_bytes(one.content) != content_to_bytes(before):
            faults.append(f"{one.hospital} answered {one.kind} at {one.place} anew")


def _covers(paid: Paid, sent: Sent) -> bool:
    """Whether a line pays for an answer: its own place, or a later round of its pass."""
    round, attempt = sent.place
    later = paid.round < round < paid.round + paid.rounds
    return paid.place == (round, attempt) or (later and attempt == 1)


def _hold_paid(sent: Sent, book: Book, settings: Settings, faults: list[str]) -> None:
    lines = [one for one in book.paid if _covers(one, sent)]
    what = f"{sent.hospital}: the answer to {sent.kind} at round and attempt {sent.place}"
    if not lines:
        faults.append(f"{what} has no event in its ledger")
    elif min(one.end for one in lines) > sent.ledger_bytes:
        faults.append(f"{what} left before its event was in the ledger")


def _hold_signed(sent: Sent, book: Book, faults: list[str]) -> None:
    assert sent.content is not None
    arrays = sent.content.array_records[ARRAYS]
    what = f"{sent.hospital}: {sent.kind} at {sent.place}"
    if sent.kind in (Kind.FORWARD, Kind.HEAD):
        end = book.shown.get((*sent.place, _TURNS.index(sent.kind) + 1))
        if end is None or end > sent.ledger_bytes:
            faults.append(f"{what} was shown without a line that says so")
        return
    digest, end = book.answered.get(sent.place, ("", 0))
    if sent.kind is Kind.VISIT:
        parts = [arrays[one].data for one in ("header", "envelope") if one in arrays]
        signed = sha256(b"".join(parts)).hexdigest()
    else:
        reply = RoundReply.read(sent.content)
        signed = Parcel.of(reply.sealed, reply.envelopes).digest
    if not end or end > sent.ledger_bytes or digest != signed:
        faults.append(f"{what} left, and its ledger has {digest[:12] or 'nothing'} there")


def _hold_events(
    hospital: str,
    private: list[Sent],
    book: Book,
    settings: Settings,
    noise_multiplier: float,
    faults: list[str],
) -> None:
    views = faced(settings, noise_multiplier)
    for paid in book.paid:
        answers = [one for one in private if _covers(paid, one)]
        if not answers:
            continue
        expected = cost_of(settings, noise_multiplier, answers[0])
        differing = [key for key in expected if not _same(expected[key], paid.event.get(key))]
        messages = len(_TURNS) * paid.rounds if settings.exchange.name == "layers" else 0
        if paid.uses != (messages or expected["count"]):
            faults.append(f"{hospital}, round and attempt {paid.place}: pays for {paid.uses} uses")
        if differing or set(paid.event) != set(expected):
            faults.append(
                f"{hospital}, round and attempt {paid.place}: {dict(paid.event)}, expected "
                f"{expected}"
            )
        # With a share of the noise observers differ, so a line must say what each of them faces.
        due = bool(paid.views) or settings.privacy.regime == "FSCDP"
        said = {name: paid.views.get(name) for name in views} if due else {}
        wrong = [name for name in said if not _same(views[name], said[name])]
        if wrong:
            faults.append(
                f"{hospital}, round and attempt {paid.place}: {wrong[0]} is said to face "
                f"{said[wrong[0]]}, expected {views[wrong[0]]}"
            )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)


def _unanswered(
    hospital: str, sent: list[Sent], private: list[Sent], book: Book, settings: Settings
) -> Iterator[str]:
    """Yield what was paid for and never left, though no code says why; and what was paid twice."""
    for place, times in Counter(one.place for one in book.paid).items():
        if times > 1:
            yield f"{hospital}: round and attempt {place} has {times} events"
    refused = {one.place for one in sent if one.kind in PRIVATE and one.content is None}
    for paid in book.paid:
        left = {(one.kind, one.place) for one in private if _covers(paid, one)}
        # In a pass that an attempt broke off, turns are paid for that nobody came to ask for.
        needed = 1 if settings.exchange.name == "layers" else paid.uses
        count = len(left) if settings.exchange.name == "layers" else len(left) * paid.uses
        if count < needed and paid.place not in refused:
            yield f"{hospital}: round and attempt {paid.place} was paid for, and nothing left"
        if settings.exchange.name == "layers" and len(left) > paid.uses:
            yield f"{hospital}: {len(left)} messages left for {paid.uses} that were paid for"


def _unlisted(sent: list[Sent], book: Book) -> Iterator[str]:
    """Yield figures that left without a line that lets them go."""
    left = [one for one in sent if one.kind in FIGURES and one.content is not None]
    for number, one in enumerate(left):
        if number >= len(book.public) or book.public[number] > one.ledger_bytes:
            yield f"{one.hospital}: the answer to {one.kind} has no line in its ledger"


def _miscounted(wire: Wire, settings: Settings, counts: list[int]) -> Iterator[str]:
    """Yield where the run's own statement counts fewer events than a hospital's ledger."""
    if not settings.regime.private:
        return
    said = json.loads((wire.out / "privacy.json").read_text(encoding="utf-8"))["rounds_spent"]
    if said != max(counts, default=0):
        yield f"privacy.json counts {said} events, the fullest ledger {max(counts, default=0)}"


def _underclaimed(
    wire: Wire, settings: Settings, noise_multiplier: float, counts: list[int]
) -> Iterator[str]:
    """Yield claims of the run's own statement that are below what its ledgers cost."""
    if not settings.regime.private:
        return
    said = json.loads((wire.out / "privacy.json").read_text(encoding="utf-8"))
    rate = 1.0 if settings.exchange.name == "layers" else settings.training.sampling_rate
    noise = {**faced(settings, noise_multiplier), "public": noise_multiplier}
    yield from claim_faults(said, settings, noise, counts, rate)


def _told_of_hospitals(wire: Wire, settings: Settings) -> Iterator[str]:
    """Yield what a run's files say of single hospitals whose data are not declared public."""
    if settings.data.public:
        return
    summary = json.loads((wire.out / "summary.json").read_text(encoding="utf-8"))
    if summary.get("hospital_accuracy") is not None:
        yield "summary.json has an accuracy for each hospital"
    if summary.get("alone_accuracy") is not None:
        yield "summary.json has an accuracy of each hospital's own model"
    if (wire.out / "split.json").exists():
        yield "split.json counts records by hospital"
    for line in (wire.out / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        if json.loads(line)["kind"] == "hospitals":
            yield "metrics.jsonl has a row about single hospitals"


def _server_faults(
    wire: Wire, settings: Settings, training: str, noise_multiplier: float
) -> Iterator[str]:
    """Yield attempts that hospitals answered and the server's own ledger does not have."""
    if not settings.regime.private:
        return
    by_hospital = EXCHANGES[settings.exchange.name].travels
    entries = {
        (one.round, one.attempt): one
        for one in read_ledger(wire.out / "ledger.jsonl").entries
        if one.training == training
    }
    asked = {one.place: one for one in wire.sent if one.kind in PRIVATE}
    for place, sent in asked.items():
        layers = settings.exchange.name == "layers"
        if place not in entries:
            covered = any(
                round <= place[0] and entry.event.count and layers  # a pass is paid for once
                for (round, _), entry in entries.items()
            )
            if not covered or place[1] > 1:
                yield f"round and attempt {place} was asked of {sent.hospital}"
            continue
        event = entries[place].event
        expected = cost_of(settings, noise_multiplier, sent)
        found = {name: getattr(event, name, None) for name in expected if name != "kind"}
        if any(not _same(expected[name], found[name]) for name in found):
            yield f"round and attempt {place}: {found}, expected {expected}"
        if by_hospital and not entries[place].purpose.endswith(sent.hospital):
            yield f"round and attempt {place}: paid for {entries[place].purpose!r}"
