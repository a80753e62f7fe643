"""An id stands for one set of terms, and no request gets around it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clients.contract.binding import NONCE_BYTES, training_id
from clients.contract.ceremony_messages import JoinReply
from clients.contract.kinds import KINDS, Kind
from clients.contract.messages import ReleaseRequest
from clients.contract.visit_messages import JudgeRequest, VisitRequest
from clients.data import Cohort
from clients.site import own_offer
from clients.site.own_records import own_cohort
from clients.site.site_file import SiteFile
from crypto.headers import HeaderKind, SignedHeader
from crypto.identity import Identity
from tests.door.sites import Asking, Sites
from tests.door.split_play import LAYERS
from tests.door.world import CHALLENGE, EXACT, LOCAL, Play, agreement_of, door_settings, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def one_of(play: Play, kind: Kind) -> Asking:
    """A well-formed request of a kind, under a play's terms."""
    from clients.contract.layer_messages import TurnRequest
    from clients.contract.share_messages import SharesRequest

    plain = {"training": play.training, "bind": play.bind}
    made = {
        Kind.JOIN: play.joining,
        Kind.LEAD: play.leading,
        Kind.REVEAL: play.revealing,
        Kind.RELEASE: lambda: ReleaseRequest(**plain, headers=()),
        Kind.EVALUATE: lambda: ReleaseRequest(**plain, headers=()),
        Kind.HEAD: lambda: TurnRequest(**plain, round=1, attempt=1),
        Kind.BACKWARD: lambda: TurnRequest(**plain, round=1, attempt=1),
        Kind.ANSWER: lambda: SharesRequest(**plain, round=1, attempt=1, roster=b"roster"),
        Kind.VISIT: lambda: VisitRequest(**plain, round=1, steps=3, carry=True),
        Kind.RELEASE_CARRIED: lambda: VisitRequest(**plain, round=1),
        Kind.EVALUATE_MODELS: lambda: JudgeRequest(**plain, models=()),
    }
    return made.get(kind, lambda: play.request(1))()


def asked_kinds(exchange: str) -> list[Kind]:
    return sorted(KINDS[exchange] - {Kind.WITNESS, Kind.VOUCH, Kind.KEYS})


def test_no_record_is_read_for_what_the_book_alone_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may send messages could else keep a hospital busy with reading its table."""
    play, read = started(tmp_path), list[str]()

    def counted(file: SiteFile, *given: Any) -> Cohort:
        read.append(file.hospital)
        return own_cohort(file, *given)

    monkeypatch.setattr("clients.site.worker.own_cohort", counted)
    name = "hospital-00"
    lines = play.sites.book_bytes(name)
    for kind in asked_kinds("gradients"):
        if kind in (Kind.JOIN, Kind.LEAD, Kind.REVEAL):
            continue
        request = one_of(play, kind)
        assert play.ask(name, kind, replace(request, bind="0" * 64)).code == "training-bound"
        assert play.ask(name, kind, replace(request, training="a" * 40)).code == "keys-missing"
    assert (read, play.sites.book_bytes(name)) == ([], lines)
    assert play.ask(name, Kind.TRAIN, play.request(1))
    assert read == [name]


@pytest.mark.parametrize(
    "other",
    [EXACT, LAYERS, {**EXACT, "exchange__name": "layers", "model__name": "mlp"}],
    ids=["exact", "layers", "exact layers"],
)
def test_an_id_that_was_bound_answers_to_no_other_terms(
    tmp_path: Path, other: dict[str, object]
) -> None:
    play = started(tmp_path)
    play.train(1)
    before = play.sites.book_bytes("hospital-00")
    settings = door_settings(**other)
    foreign = Play.of(play.sites, settings)
    foreign.offers = play.offers
    # Under the old id with the new terms, with the old terms' digest, and both ends swapped.
    for digest in (foreign.bind, play.bind):
        object.__setattr__(
            foreign,
            "agreement",
            _renamed(foreign.agreement, play.training, play.agreement.nonce, digest),
        )
        for kind in asked_kinds(settings.exchange.name):
            answer = foreign.ask("hospital-00", kind, one_of(foreign, kind))
            assert answer.code == "training-bound", (kind, answer)
    assert play.sites.book_bytes("hospital-00") == before
    # The same settings go on.
    play.close(1)
    assert play.train(2)


def _renamed(agreement, training: str, nonce: bytes, digest: str):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(agreement, training=training, nonce=nonce, digest=bytes.fromhex(digest))


def test_an_id_that_is_not_made_of_the_terms_is_refused_without_any_memory(tmp_path: Path) -> None:
    sites = Sites(tmp_path / "c")
    play = Play.of(sites, door_settings())
    nonce = bytes(NONCE_BYTES)
    for changes in (
        {"training": "word"},
        {"nonce": nonce},
        {"nonce": b""},
        {"training": training_id(bytes(32), nonce), "nonce": nonce},
        {"bind": "00" * 32},
        {"bind": ""},
    ):
        answer = play.ask("hospital-00", Kind.JOIN, play.joining(**changes))
        assert answer.code == "training-bound", changes
    assert play.ask("hospital-00", Kind.JOIN, play.joining())


def test_a_kind_that_the_exchange_does_not_have_writes_no_line(tmp_path: Path) -> None:
    play = started(tmp_path, **LAYERS)
    before = play.sites.book_bytes("hospital-00")
    play.sites.keep("hospital-00")
    for number in range(300):
        answer = play.ask("hospital-00", Kind.TRAIN, play.request(1 + number % 5, 1 + number % 3))
        assert answer.code == "wrong-exchange"
    assert play.sites.book_bytes("hospital-00") == before
    assert play.ask("hospital-00", Kind.FORWARD, play.request(1))
    play.sites.close()


def test_rounds_and_attempts_beyond_the_terms_are_refused(tmp_path: Path) -> None:
    play = started(tmp_path, privacy__spare_attempts=1)
    for attempt in (0, -1):
        assert play.ask("hospital-00", Kind.TRAIN, play.request(1, attempt)).code == "malformed"
    assert play.ask("hospital-00", Kind.TRAIN, play.request(0)).code == "malformed"
    assert play.ask("hospital-00", Kind.TRAIN, play.request(4)).code == "stale-place"
    play.train(1)
    play.train(1, 2)
    play.close(1, 2)
    play.train(2)
    play.close(2)
    play.train(3)
    # T + 1 places are gone: three rounds and one spare attempt.
    assert play.ask("hospital-00", Kind.TRAIN, play.request(3, 2)).code == "stale-place"
    play.close(3)
    assert play.ask("hospital-00", Kind.TRAIN, play.request(4)).code == "stale-place"
    shorter = door_settings(privacy__spare_attempts=1, training__rounds=2)
    answer = play.sites.ask("hospital-00", Kind.TRAIN, play.request(3, 3), shorter)
    assert answer.code == "training-bound"
    assert play.sites.kinds("hospital-00").count("spend") == 4


def test_keys_are_not_made_anew_once_something_was_spent(tmp_path: Path) -> None:
    settings = door_settings(**LOCAL, **{"privacy__noise_multiplier": 20.0})
    sites = Sites(tmp_path / "c")
    play = Play.of(sites, settings)
    play.begin()
    files = {path: path.read_bytes() for path in sites.folder("hospital-01").glob("*-*")}
    play.train(1)
    less = Play(sites, settings, agreement_of(settings, 0.1), offers=dict(play.offers))
    less.agreement = _renamed(less.agreement, play.training, play.agreement.nonce, less.bind)
    for kind, request in ((Kind.JOIN, less.joining()), (Kind.LEAD, less.leading())):
        assert sites.ask("hospital-01", kind, request, settings).code == "training-bound"
    # On the very same terms a new bundle comes too late as well.
    assert play.ask("hospital-01", Kind.LEAD, play.leading()).code == "training-bound"
    made = play.keys_for("hospital-01", _bundle_of_before(play))
    assert play.ask("hospital-01", Kind.KEYS, made).code in ("training-bound", "keys-missing")
    for path, data in files.items():
        if path.name.startswith(("keys-", "terms-")):
            assert path.read_bytes() == data
    play.close(1)
    assert play.train(2)


def _bundle_of_before(play: Play):  # type: ignore[no-untyped-def]
    from clients.contract.ceremony_messages import LeadReply
    from crypto.ceremony import make_bundle
    from crypto.offers import Offer

    offers = [Offer.from_bytes(data) for data in play.offers.values()]
    leader = "hospital-02"
    identity = Identity.load_or_create(play.sites.folder(leader) / "identity.key")
    _, bundle = make_bundle(offers, identity, leader, play.agreement.terms.sealing, {})
    return LeadReply(public=bundle.public.to_bytes(), wrapped=bundle.wrapped)


def test_keys_may_come_again_while_nothing_was_spent(tmp_path: Path) -> None:
    play = started(tmp_path)
    made = play.lead("hospital-02")
    for name in ("hospital-00", "hospital-01"):
        answer = play.ask(name, Kind.KEYS, play.keys_for(name, made))
        assert answer, (name, answer.code)
    play.run()
    assert play.release("hospital-00", play.confirm(3)).round.model


def test_a_hospital_that_has_its_keys_offers_none_any_more(tmp_path: Path) -> None:
    play = started(tmp_path)
    before = set(play.sites.folder("hospital-00").iterdir())
    for challenge in (CHALLENGE, bytes(32)):
        answer = play.ask("hospital-00", Kind.JOIN, play.joining(challenge=challenge))
        reply = JoinReply.read(answer.records)
        header = SignedHeader.from_bytes(reply.presence).header
        assert reply.offer == b""
        assert (header.kind, header.nonce) == (HeaderKind.PRESENCE, challenge)
    assert set(play.sites.folder("hospital-00").iterdir()) == before


def test_joins_fill_no_book_and_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_offer.MOST_CEREMONIES >= 1000  # fewer joins would end a ceremony under way
    monkeypatch.setattr(own_offer, "MOST_CEREMONIES", 4)
    sites = Sites(tmp_path / "c")
    settings = door_settings()
    for _ in range(6):
        play = Play.of(sites, settings)
        assert play.ask("hospital-00", Kind.JOIN, play.joining())
    assert len(list(sites.folder("hospital-00").glob("ceremony-*"))) == 4
    # Asked again, the same offer comes.
    first, second = (
        JoinReply.read(play.ask("hospital-00", Kind.JOIN, play.joining()).records).offer
        for _ in range(2)
    )
    assert first == second


def test_offers_of_hospitals_that_the_server_made_up_are_refused_by_pins(tmp_path: Path) -> None:
    play = Play.of(Sites(tmp_path / "c"), door_settings())
    play.join(["hospital-00"])
    from crypto.ceremony import make_offer

    for name in ("hospital-01", "hospital-02"):
        offer, _ = make_offer(play.training, name, Identity.generate())
        play.offers[name] = offer.to_bytes()
    assert play.ask("hospital-00", Kind.LEAD, play.leading()).code == "site-refused"
    assert not list(play.sites.folder("hospital-00").glob("keys-*"))


def test_a_ckks_training_does_not_become_another_schemes_to_release_it(tmp_path: Path) -> None:
    play = started(tmp_path, **{**EXACT, "sealing__scheme": "ckks"})
    play.run()
    headers = play.confirm(3)
    other = door_settings(**{**EXACT, "sealing__scheme": "bfv"})
    request = play.releasing(headers)
    assert play.sites.ask("hospital-00", Kind.RELEASE, request, other).code == "training-bound"
    assert play.ask("hospital-00", Kind.RELEASE, request).code == "release-refused"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: s.rewrite("hospital-00", "delta = 1e-4", "delta = nan"),
        lambda s: s.rewrite("hospital-00", "delta = 1e-4", "max-epsilon = nan\ndelta = 1e-4"),
        lambda s: s.rewrite("hospital-00", "delta = 1e-4", "max-epsilon = 1.0"),
        lambda s: s.rewrite(
            "hospital-00", "min-noise-multiplier = 0.0", "min-noise-multiplier = nan"
        ),
        lambda s: (s.folder("hospital-00") / "identity.key").chmod(0o666),
        lambda s: s.rewrite("hospital-00", '"private/ledger.jsonl"', '"/dev/null"'),
        lambda s: s.rewrite("hospital-00", '"private/ledger.jsonl"', '"private"'),
        lambda s: s.rewrite("hospital-00", '"private/ledger.jsonl"', '"missing/ledger.jsonl"'),
        lambda s: _shared_ledger(s),
    ],
    ids=[
        "delta nan",
        "epsilon nan",
        "epsilon without delta",
        "sigma nan",
        "identity for all",
        "ledger to nowhere",
        "ledger a folder",
        "ledger in no folder",
        "ledger for all",
    ],
)
def test_a_site_that_is_not_in_order_answers_nothing(tmp_path: Path, spoil) -> None:  # type: ignore[no-untyped-def]
    sites = Sites(tmp_path / "c")
    play = Play.of(sites, door_settings())
    spoil(sites)
    assert play.ask("hospital-00", Kind.JOIN, play.joining()).code == "site-refused"


def _shared_ledger(sites: Sites) -> None:
    path = sites.folder("hospital-00") / "ledger.jsonl"
    path.touch()
    path.chmod(0o666)


def test_keys_that_others_can_read_are_not_used(tmp_path: Path) -> None:
    play = started(tmp_path)
    next(play.sites.folder("hospital-00").glob("keys-*")).chmod(0o644)
    assert play.ask("hospital-00", Kind.TRAIN, play.request(1)).code == "site-refused"
    assert "spend" not in play.sites.kinds("hospital-00")
