"""What a refusal tells by its time, where answers leave at whole multiples of seconds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from clients.contract.ceremony_messages import JoinRequest
from clients.contract.settings import Settings
from tests.door.sites import Sites


def _joined(sites: Sites, source: str, **more: object) -> str:
    told = {"data.name": source, "data.patients": 90, "data.largest-hospital": 60}
    asked = JoinRequest(
        training="t1", bind="0" * 64, noise_multiplier=1.0, nonce=b"", challenge=b"0" * 32
    )
    return sites.ask(
        sites.names[0], "query.join", asked, Settings().with_config({**told, **more})
    ).code


@pytest.fixture
def table(tmp_path: Path) -> str:
    """A name of a hospital's own table."""
    (tmp_path / "t.toml").write_text(
        'target = "y"\nclasses = ["a", "b"]\npatient = "p"\n[ranges]\nx = [0, 9]\n'
    )
    rows = "".join(f"{one},a,5\n" for one in range(50))
    (tmp_path / "t.csv").write_text("p,y,x\n" + rows)
    return f"csv:{tmp_path / 't.csv'}"


def test_what_is_refused_after_records_were_read_is_held_as_well(
    table: str, tmp_path: Path
) -> None:
    sites = Sites(
        tmp_path / "c",
        2,
        data={"name": table, "public": False},
        partitions=False,
        test_mode=False,
    )
    sites.rewrite(sites.names[0], "answer-every = 0", "answer-every = 1")
    for _ in range(2):
        assert _joined(sites, table, **{"task.name": "survival"})
        assert time.time() % 1.0 < 0.3
