import pytest

from accounting.vocabulary import EXCHANGES
from clients.contract.kinds import KINDS, Kind

CEREMONY = {Kind.JOIN, Kind.REVEAL, Kind.LEAD, Kind.KEYS, Kind.END}
SUMS = {Kind.ANSWER, Kind.CONFIRM, Kind.RELEASE}
LEDGERS = {Kind.WITNESS, Kind.VOUCH}


def test_every_exchange_says_what_it_answers_and_every_kind_is_answered_somewhere():
    assert set(KINDS) == set(EXCHANGES)
    assert set().union(*KINDS.values()) == set(Kind)
    for kinds in KINDS.values():
        assert kinds >= CEREMONY | LEDGERS


@pytest.mark.parametrize(
    ("exchange", "own"),
    [
        ("gradients", {Kind.TRAIN, *SUMS, Kind.EVALUATE}),
        ("weights", {Kind.TRAIN, *SUMS, Kind.EVALUATE}),
        (
            "layers",
            {
                Kind.FORWARD,
                Kind.HEAD,
                Kind.BACKWARD,
                *SUMS,
                Kind.EVALUATE_MODELS,
            },
        ),
        ("cyclic", {Kind.VISIT, Kind.RELEASE_CARRIED, Kind.EVALUATE_MODELS}),
        ("single", {Kind.VISIT, Kind.RELEASE_CARRIED, Kind.EVALUATE_MODELS}),
        ("ensemble", {Kind.VISIT, Kind.EVALUATE_MODELS}),
    ],
)
def test_an_exchange_answers_its_own_kinds_and_no_others(exchange, own):
    assert KINDS[exchange] - CEREMONY - LEDGERS == own


def test_sums_are_confirmed_and_models_carried_never_both():
    for exchange, kinds in KINDS.items():
        assert (Kind.CONFIRM in kinds) == EXCHANGES[exchange].sums
        assert (Kind.VISIT in kinds) == EXCHANGES[exchange].travels
