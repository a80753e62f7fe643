"""A committee that is drawn: nobody chooses it, and no training's id leads to another."""

import dataclasses
from collections import Counter

import pytest

from crypto.ceremony import make_offer
from crypto.committees import check_reveal, draw_committee, reveal_of
from crypto.errors import CeremonyError
from crypto.identity import Identity
from crypto.offers import Offer

NAMES = [f"hospital-{k:02}" for k in range(25)]


@pytest.fixture(name="drawn", scope="module")
def make_drawn():
    """Offers, and what each committed to."""
    made = [make_offer("t", name, Identity.generate()) for name in NAMES]
    return [offer for offer, _ in made], {
        name: reveal_of(secret) for name, (_, secret) in zip(NAMES, made, strict=True)
    }


def test_all_draw_the_same_whatever_the_order_of_offers(drawn):
    offers, reveals = drawn
    committee = draw_committee(offers, reveals, 20)
    assert len(set(committee)) == 20 and list(committee) == sorted(committee)
    assert draw_committee(offers[::-1], dict(reversed(reveals.items())), 20) == committee
    assert set(draw_committee(offers, reveals, 7)) < set(committee)


@pytest.mark.parametrize("ids", [300, pytest.param(100_000, marks=pytest.mark.exhaustive)])
def test_no_id_of_a_training_leads_to_another_committee(drawn, ids):
    """The control: another number of one hospital does."""
    offers, reveals = drawn
    first = draw_committee(offers, reveals, 20)
    for number in range(ids):
        renamed = [dataclasses.replace(one, training=f"t{number}") for one in offers]
        assert draw_committee(renamed, reveals, 20) == first
    other, secret = make_offer("t", NAMES[0], Identity.generate())
    changed = draw_committee([other, *offers[1:]], reveals | {NAMES[0]: reveal_of(secret)}, 20)
    assert changed != first


def test_who_shows_its_number_last_can_show_one_alone(drawn):
    offers, reveals = drawn
    last = offers[-1]
    for wrong in (bytes(32), reveals[NAMES[0]], b"", reveals[last.name] + b"x"):
        with pytest.raises(CeremonyError, match=f"'{last.name}' showed another number"):
            draw_committee(offers, reveals | {last.name: wrong}, 20)
    held_back = {name: one for name, one in reveals.items() if name != last.name}
    with pytest.raises(CeremonyError, match=f"'{last.name}' did not show"):
        draw_committee(offers, held_back, 20)


def test_an_offer_says_nothing_of_its_number_and_its_signature_covers_the_commitment(drawn):
    offers, reveals = drawn
    relayed = b"".join(offer.to_bytes() for offer in offers)
    assert not any(one in relayed or one.hex().encode() in relayed for one in reveals.values())
    offer = offers[0]
    check_reveal(offer, reveals[offer.name])
    forged = dataclasses.replace(offer, commitment=bytes(32))
    with pytest.raises(Exception, match="signature"):
        forged.verify()
    assert Offer.from_bytes(offer.to_bytes()) == offer


def test_every_hospital_sits_in_it_about_as_often_as_any_other():
    """Of 600 draws of 5 of 25: 120 each, with a standard deviation of 9.8."""
    offers = [make_offer("t", name, Identity.generate()) for name in NAMES]
    seats = Counter()
    for _ in range(600):
        offer, secret = make_offer("t", NAMES[7], Identity.generate())
        made = [*offers[:7], (offer, secret), *offers[8:]]
        reveals = {one.name: reveal_of(key) for one, key in made}
        seats.update(draw_committee([one for one, _ in made], reveals, 5))
    assert set(seats) == set(NAMES)
    assert all(abs(seats[name] - 120) < 55 for name in NAMES)
