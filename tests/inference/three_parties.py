"""Provider, dealer and patients on this machine, with real TLS, and all that they send."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tomli_w

from clients.prediction.private_program import compile_model
from crypto.inference.links import FrameLink
from crypto.inference.words import encode
from deployment.inference.agents import Agent
from deployment.inference.dealers import Dealer
from deployment.inference.folders import FILE, read_folder
from deployment.inference.founding import found
from deployment.inference.providers import Provider

HERE = "127.0.0.1:0"


def change(folder: Path, **values) -> None:
    """Change what a party's file says."""
    said = tomllib.loads((folder / FILE).read_text())
    said |= {name.replace("_", "-"): value for name, value in values.items()}
    (folder / FILE).write_text(tomli_w.dumps(said))


class Parties:
    """Three parties; provider and dealer run in this process."""

    def __init__(self, folder: Path, artefact, *, patients=("ada",), stock=1, **provider) -> None:
        self.folder = folder / "clinic"
        model = folder / "model.safetensors"
        model.write_bytes(artefact.to_bytes())
        list(found(self.folder, model, patients, provider=HERE, dealer=HERE))
        self.provider_settings = {"listen": HERE, **provider}
        change(self.folder / "dealer", listen=HERE, stock=stock)
        self.dealer = self.provider = None

    def start_dealer(self, **options) -> Dealer:
        self.dealer = Dealer(read_folder(self.folder / "dealer", "dealer"), **options).start()
        address = f"127.0.0.1:{self.dealer.server.port}"
        self.provider_settings["dealer"] = address
        for patient in (self.folder / "patients").iterdir():
            change(patient, dealer=address)
        return self.dealer

    def start_provider(self, **options) -> Provider:
        change(self.folder / "provider", **self.provider_settings)
        folder = read_folder(self.folder / "provider", "provider")
        self.provider = Provider(folder, **options).start()
        self.tell_patients(self.provider.server.port)
        return self.provider

    def tell_patients(self, port: int) -> None:
        for patient in (self.folder / "patients").iterdir():
            change(patient, provider=f"127.0.0.1:{port}")

    def agent(self, name="ada", **options) -> Agent:
        return Agent(read_folder(self.folder / "patients" / name, "patient"), **options)

    def close(self) -> None:
        for one in (self.provider, self.dealer):
            if one is not None:
                one.close()


@contextmanager
def parties(folder: Path, artefact, **options):
    """Yield three parties that run."""
    made = Parties(folder, artefact, **options)
    try:
        made.start_dealer()
        made.start_provider()
        yield made
    finally:
        made.close()


def heard(monkeypatch) -> dict[str, bytearray]:
    """Return what is sent from now on, before TLS, by whom it is sent to."""
    sent = defaultdict(bytearray)
    write = FrameLink._write

    def noting(self, pending):
        piece = pending[0]
        went = write(self, pending)
        sent[self.peer] += piece[:went]
        return went

    monkeypatch.setattr(FrameLink, "_write", noting)
    return sent


def needles(model, inputs):
    """Return the picture and the weights in all forms that they have here, whole and in part."""
    compiled = compile_model(model)
    prepared = compiled.prepared(inputs)
    ((_, weights),) = compiled.weights.items()
    state = next(iter(model.members.values()))
    arrays = [inputs, (inputs * 255).astype(np.uint8), prepared, encode(prepared)]
    arrays += [weights.matrix, weights.words, weights.bias, *(t.numpy() for t in state.values())]
    whole = [np.ascontiguousarray(array).tobytes() for array in arrays]
    return [form[at : at + 16] for form in whole for at in (0, (len(form) // 32) * 16)]


def written(three: Parties) -> list[bytes]:
    """Return all files of the three parties, but for the model that the provider was given."""
    files = (file for file in three.folder.rglob("*") if file.is_file())
    return [file.read_bytes() for file in files if file.name != "predictor.safetensors"]
