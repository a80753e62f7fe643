"""Attacks on who is in a training, and on what its id stands for, where a book is bound to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clients.contract.kinds import Kind
from tests.door.sites import Sites
from tests.door.world import Play, door_settings, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

A = "hospital-00"


def many(folder: Path, there: int, named: int) -> Play:
    """So many sites, with records of their own, where the run names another number."""
    sites = Sites(folder / "c", there, partitions=False, data={"name": "breast-cancer"})
    declared = {"data__patients": 1200, "data__largest_hospital": 500, "data__public": False}
    return Play.of(sites, door_settings(named, **declared, privacy__dropouts=0))


@pytest.mark.parametrize(("there", "named"), [(6, 3), (4, 3), (2, 3)])
def test_a_training_has_as_many_members_as_its_run_names(
    tmp_path: Path, there: int, named: int
) -> None:
    """K = 3, d = 0, so a quorum is 3: six members would be enough for two chains of sums."""
    play = many(tmp_path, there, named)
    play.join()
    before = play.sites.kinds(A)
    assert play.ask(A, Kind.LEAD, play.leading()).code == "malformed"
    assert play.sites.kinds(A) == before
    assert not list(play.sites.folder(A).glob("keys-*"))


def test_no_member_takes_keys_that_were_made_for_more(tmp_path: Path) -> None:
    """A leader that deviates makes them all the same."""
    from crypto.ceremony import make_bundle
    from crypto.identity import Identity
    from crypto.offers import Offer

    play = many(tmp_path, 4, 3)
    play.join()
    offers = [Offer.from_bytes(play.offers[name]) for name in play.names]
    leader = Identity.load_or_create(play.sites.folder("hospital-01") / "identity.key")
    _, bundle = make_bundle(offers, leader, "hospital-01", play.agreement.terms.sealing, {})
    from clients.contract.ceremony_messages import LeadReply

    made = LeadReply(public=bundle.public.to_bytes(), wrapped=bundle.wrapped)
    assert play.ask(A, Kind.KEYS, play.keys_for(A, made)).code == "malformed"
    assert "bind" not in play.sites.kinds(A)


def test_three_of_four_sites_train_where_the_run_names_three(tmp_path: Path) -> None:
    play = many(tmp_path, 4, 3)
    play.join(play.names[:3])
    made = play.lead(A)
    for name in play.names[1:3]:
        assert play.ask(name, Kind.KEYS, play.keys_for(name, made))


def test_who_joined_on_some_terms_takes_keys_on_no_others(tmp_path: Path) -> None:
    play = Play.of(Sites(tmp_path / "c"), door_settings())
    play.join()
    other = Play.of(play.sites, door_settings(training__rounds=30, privacy__noise_multiplier=0.5))
    other.offers = play.offers
    other.agreement = replace(other.agreement, training=play.training, nonce=play.agreement.nonce)
    assert other.bind != play.bind
    assert other.ask(A, Kind.LEAD, other.leading()).code == "training-bound"
    assert "bind" not in play.sites.kinds(A)
    made = play.lead("hospital-01")
    answer = other.ask(A, Kind.KEYS, other.keys_for(A, made))
    assert answer.code == "training-bound"
    assert play.ask(A, Kind.KEYS, play.keys_for(A, made))


def test_nobody_leads_with_offers_for_another_training(tmp_path: Path) -> None:
    sites = Sites(tmp_path / "c")
    one, other = Play.of(sites, door_settings()), Play.of(sites, door_settings())
    assert one.training != other.training
    one.join()
    other.join()
    leading = one.leading(offers=tuple(other.offers.values()))
    assert one.ask(A, Kind.LEAD, leading).code == "malformed"


def test_nobody_leads_without_its_own_offer(tmp_path: Path) -> None:
    play = Play.of(Sites(tmp_path / "c"), door_settings())
    play.join()
    older = play.offers[A]
    for path in play.sites.folder(A).glob("ceremony-*"):
        path.unlink()
    play.join([A])
    assert play.offers[A] != older
    play.offers[A] = older
    assert play.ask(A, Kind.LEAD, play.leading()).code == "keys-missing"


@pytest.mark.parametrize(
    ("old", "new"),
    [("[data]\n", "[data]\npatients = 7\n"), ("public = true", "public = false")],
)
def test_what_a_site_says_for_itself_stays_what_it_was_bound_to(
    tmp_path: Path, old: str, new: str
) -> None:
    play = started(tmp_path)
    play.run(1)
    play.sites.rewrite(A, old, new)
    joined = play.ask(A, Kind.JOIN, play.joining())
    trained = play.ask(A, Kind.TRAIN, play.request(2))
    assert (joined.code, trained.code) == ("training-bound", "training-bound")
    assert "site.toml" in trained.log
    play.sites.rewrite(A, new, old)
    assert play.ask(A, Kind.TRAIN, play.request(2))
