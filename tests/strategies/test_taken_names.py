"""A registered node that says it is another hospital is named and left out; the others train."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flwr.app import Message

from clients.contract.ceremony_messages import JoinReply
from clients.contract.kinds import Kind
from crypto.ceremony import make_offer
from crypto.identity import Identity, fingerprint
from strategies.claims import Claim, held_by
from tests.deployment.real_sites import SiteGrid, benchmark_consortium, train, vouched
from tests.in_process import hospital_of, small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

HOSTILE, CLAIMED = "hospital-03", "hospital-00"


@pytest.mark.parametrize("there", [True, False], ids=["claimed twice", "claimed alone"])
def test_nobody_stops_a_training_by_taking_anothers_name(tmp_path: Path, there: bool) -> None:
    """Four nodes; where the claimed hospital is away, three of the others are enough."""
    own = {"partitions": False, "data": {"name": "breast-cancer"}}
    consortium = vouched(benchmark_consortium(tmp_path / "c", 4 if there else 5, **own))

    def claims(message: Message, reply: Message | None) -> Message | None:
        name = hospital_of(message)
        if name == CLAIMED and not there:
            return None
        if name != HOSTILE or message.metadata.message_type != Kind.JOIN:
            return reply or message
        training = str(message.content.config_records["config"]["training"])
        offer, _ = make_offer(training, CLAIMED, Identity.generate())
        answer = JoinReply(name=CLAIMED, offer=offer.to_bytes())
        return Message(answer.content(), reply_to=message)

    settings = small_settings(
        tmp_path / "run",
        data__public=False,
        data__patients=1200,
        data__largest_hospital=500,
        partition__hospitals=3,
        partition__sites="hospital-00,hospital-01,hospital-02" if there else "",
    )
    train(settings, SiteGrid(settings, consortium, claims))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "finished"
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    codes = [one["code"] for one in map(json.loads, lines) if one["kind"] == "fault"]
    assert f"takes the name of {CLAIMED}" in codes


def claim(name: str, key: Identity, **pins: Identity) -> Claim:
    offer, _ = make_offer("t", name, key)
    return Claim(offer=offer, pins={n: fingerprint(one.public) for n, one in pins.items()})


def test_one_liar_moves_no_name_and_a_tie_moves_none() -> None:
    a, b, liar = (Identity.generate() for _ in range(3))
    told = claim("c", liar, a=liar)
    honest = {1: claim("a", a, b=b), 2: claim("b", b, a=a)}
    assert list(held_by({**honest, 3: told}, "a")) == [1]
    assert list(held_by({1: claim("a", a), 3: told}, "a")) == []  # half of none is one
    nobody = {1: claim("a", a), 2: claim("b", b), 3: told}
    assert list(held_by(nobody, "a")) == [1]
    assert list(held_by({1: claim("a", a), 2: claim("a", b)}, "a")) == [1, 2]
    assert list(held_by({**honest, 4: claim("a", liar)}, "a")) == [1]
