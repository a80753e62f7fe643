"""The commands, as three real processes; one of them is killed half way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from some_models import artefact
from three_parties import HERE, Parties, change

from clients.prediction.predictor import Predictor
from crypto.inference.links import FrameLink, LinkError
from deployment.cli import main
from deployment.inference.pictures import asked_of, shares_of

ROOT = Path(__file__).parents[2]
SHAPE = (3, 28, 28)


def started(role: str, folder: Path) -> tuple[subprocess.Popen[str], int]:
    """Return a role's process, and the port that it says it listens on."""
    process = subprocess.Popen(
        [sys.executable, "-m", "deployment.__main__", "infer", role, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    said = process.stdout.readline()
    found = re.search(r"ready on port (\d+)", said)
    assert found, said + process.stderr.read()
    return process, int(found[1])


def ended(*processes: subprocess.Popen[str]) -> list[str]:
    """End processes, and return what they logged."""
    logs = []
    for process in processes:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
        logs.append(log)
    return logs


@pytest.mark.exhaustive
def test_a_provider_that_is_killed_half_way_and_comes_back(tmp_path, monkeypatch, capsys):
    made = artefact("cnn", SHAPE)
    three = Parties(tmp_path, made)
    dealer, port = started("dealer", three.folder / "dealer")
    change(three.folder / "provider", listen=HERE, dealer=f"127.0.0.1:{port}")
    change(three.folder / "patients" / "ada", dealer=f"127.0.0.1:{port}")
    provider, port = started("provider", three.folder / "provider")
    three.tell_patients(port)
    picture = np.random.default_rng(0).integers(0, 256, (1, 28, 28, 3), dtype=np.uint8)
    np.savez(tmp_path / "one.npz", images=picture)
    rounds = 0
    exchange = FrameLink.exchange

    def killing(self, data, size):
        nonlocal rounds
        rounds += data is not None
        if rounds == 5:
            provider.kill()
        return exchange(self, data, size)

    with three.agent() as agent:
        list(agent.fetch(2))
        asked = asked_of(tmp_path / "one.npz", agent.about)
        ((_, share),) = shares_of(asked, agent.about, agent.program.shape, None)
        agent.prepare()
        with monkeypatch.context() as patch:
            patch.setattr(FrameLink, "exchange", killing)
            with pytest.raises(LinkError, match="the provider"):
                agent.predict(share)
        assert len(agent.packets) == 1, "the other packet is still there, this one is lost"
    provider.wait()
    provider.stderr.close()
    provider.stdout.close()
    provider, port = started("provider", three.folder / "provider")
    three.tell_patients(port)
    folder = str(three.folder / "patients" / "ada")
    assert main(["infer", "predict", folder, "--data", str(tmp_path / "one.npz"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    plain = Predictor(made).chances(np.moveaxis(picture, 3, 1).astype(np.float32) / 255)[0]
    assert np.abs(np.array(list(said["probabilities"].values())) - plain).max() < 1e-3
    assert said["left"] == 18, "the one that was cut off is counted"
    logs = ended(provider, dealer)
    assert "answered ada" in logs[0]
    assert "packet went to ada" in logs[1]


def test_commands_say_what_is_wrong_in_a_sentence(tmp_path, capsys):
    model = tmp_path / "model.safetensors"
    model.write_bytes(artefact("logistic", (5,)).to_bytes())
    words = ["infer", "init", str(tmp_path / "c"), "--model", str(model), "--patient"]
    assert main([*words, "../ada"]) == 2
    assert "expected a-z, 0-9 and dashes" in capsys.readouterr().err
    assert main([*words, "ada"]) == 0
    assert f"asclepias infer dealer {tmp_path / 'c' / 'dealer'}" in capsys.readouterr().out
    assert main([*words, "ada"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["infer", "key", str(tmp_path / "c" / "dealer"), "dealer"]) == 2
    assert "key.pem exists already" in " ".join(capsys.readouterr().err.split())
    assert main(["infer", "provider", str(tmp_path / "c" / "dealer")]) == 2
    assert "role is 'dealer'" in capsys.readouterr().err
    modes = {path: path.stat().st_mode & 0o77 for path in (tmp_path / "c").rglob("key.pem")}
    assert len(modes) == 3 and not any(modes.values())
