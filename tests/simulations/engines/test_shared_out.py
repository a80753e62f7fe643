"""Hospitals whose passes are shared out: the same model, and everything else happens once."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest

from clients.learning import per_sample, shared_passes
from clients.learning.processors import Processors
from simulations.engines.device_room import find_room
from simulations.engines.local_transport import server_context
from simulations.error_messages import NotStarted
from tests.in_process import server_app, small_settings
from tests.simulations.engines.test_together import OneProcess

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def _ledger(folder: Path) -> list[tuple[str, int, int]]:
    """Kind, round and attempt of every line, but for the first."""
    lines = (folder / "ledger.jsonl").read_text().splitlines()[1:]
    found = [json.loads(line) for line in lines]
    return [(one["kind"], one.get("round", 0), one.get("attempt", 0)) for one in found]


@pytest.mark.parametrize(
    "exchange",
    [
        {},
        pytest.param(
            {"exchange__name": "weights", "exchange__local_steps": 2, "privacy__regime": "FPDP"},
            marks=pytest.mark.exhaustive,
        ),
    ],
    ids=["gradients", "two steps"],
)
def test_a_hospital_shared_out_pays_and_sends_once_and_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: dict[str, object]
) -> None:
    monkeypatch.setattr(per_sample, "CHUNK_RECORDS", 16)
    monkeypatch.setattr(shared_passes, "WORTH_SECONDS", 1e-9)
    found = []
    for count in (0, 1, 2, 3):
        out = tmp_path / str(count)
        out.mkdir()
        settings = small_settings(out, training__rounds=2, training__sampling_rate=0.5, **exchange)
        processors = Processors(secrets.token_hex(8), count) if count else None
        transport = OneProcess(settings, False, processors)
        server_app(transport, server_context(transport.run, settings.to_config()))
        # One is the hospitals' own process's.
        assert processors is None or bool(processors.used_seconds) == (count > 1)
        ledgers = {site.name: _ledger(site) for site in sorted((out / "sites").iterdir())}
        found.append(((out / "model.safetensors").read_bytes(), ledgers))
    assert all(one == found[0] for one in found)
    assert len(found[0][1]) == 4


def test_more_processes_than_fit_are_refused_and_one_a_hospital_is_begun(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0})
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"CPU": 8.0}}])
    settings = small_settings(tmp_path, run__device="cpu")
    for asked, actors, count in ((0, 4, 8), (6, 4, 6), (3, 3, 3)):
        room = find_room(settings, None, 4, asked)
        assert room.processors is not None
        assert (room.actors, room.processors.count) == (actors, count)
    with pytest.raises(NotStarted, match="--actors 9: 8 processes of 1 processors fit"):
        find_room(settings, None, 4, 9)
