"""A packet serves the model it was made for, whole, and nothing else."""

from __future__ import annotations

import os
import shutil
import time

import numpy as np
import pytest
from some_models import artefact
from three_parties import parties

from crypto.inference.activations import Relu
from crypto.inference.answers import Logits
from crypto.inference.joining import Flattening, Truncation
from crypto.inference.layers import ProgramError
from crypto.inference.links import LinkError, Refusal
from crypto.inference.normalising import GroupNorm
from crypto.inference.programs import Program
from crypto.inference.rehearsal import Seeds
from crypto.inference.sources import DealerSource, ProviderSource
from crypto.inference.weighted import Convolution, Linear, Weights
from deployment.inference import dealers as dealers_
from deployment.inference import packets as packets_
from deployment.inference.dealers import KEEP_SECONDS, Dealer
from deployment.inference.folders import read_folder
from deployment.inference.founding import found
from deployment.inference.packets import PacketError, Packets, PacketSeeds
from deployment.inference.used import Used

SHAPE = (3, 4, 4)


def test_a_packet_of_another_model_is_refused(tmp_path):
    """Both are registered: the dealer makes packets of a model that was replaced, too."""
    with parties(tmp_path, artefact("logistic", SHAPE)) as three:
        with three.agent() as agent:
            list(agent.fetch(1))
            (old,) = agent.packets._folder.glob("*.packet")
        three.provider.close()
        model = three.folder / "provider" / "predictor.safetensors"
        model.write_bytes(artefact("mlp", SHAPE).to_bytes())
        three.start_provider()
        with three.agent() as agent:
            name = old.name.partition(".")[0]
            agent.packets.put(name, [old.read_bytes() + bytes(1 << 20)])
            agent.prepare()
            assert not len(agent.packets), "taken out, and not used: there is no half of it"
        with three.agent() as agent, pytest.raises(Refusal, match="of this model") as error:
            agent._provider.ask({"ask": "prepare", "model": agent.model, "packet": name})
        assert error.value.reason == "packet"


def test_control_a_seed_under_another_list_of_layers_shows_what_it_should_mask():
    """What the provider's second draw is, is known to one bit from the tape of such a program."""
    n = 64
    coins = Program((n,), (Relu(inputs=(0,), shift=0), Logits(inputs=(1,))))
    seeds, tape = Seeds.fresh(), []
    for _ in coins.deal(DealerSource(seeds.provider, seeds.patient, {}, tape.append)):
        pass
    hiding = tape[-2]
    assert hiding.shape == (n,)
    own = ProviderSource(seeds.provider)
    dealt = next(iter(coins.deal(own)))
    guessed = np.uint64(0) - hiding
    assert np.all((dealt.hiding == guessed) | (dealt.hiding == guessed + np.uint64(1)))


def stocked(three):
    deadline = time.monotonic() + 10
    while three.dealer.ready(three.provider.model) < 1 and time.monotonic() < deadline:
        time.sleep(0.01)


def test_stock_that_has_lain_for_long_is_good_or_is_not_handed_out(tmp_path):
    model = artefact("logistic", SHAPE)
    with parties(tmp_path, model) as three:
        stocked(three)
        seeds = three.folder / "dealer" / "seeds"
        (lain,) = seeds.rglob("*.seed")
        old = time.time() - 2 * KEEP_SECONDS
        os.utime(lain, (old, old))
        with three.agent() as agent:
            list(agent.fetch(1))
            renewed = [one for one in seeds.rglob("*.seed") if one.name[:32] == lain.name[:32]]
            assert renewed[0].stat().st_mtime > time.time() - 60, "seven days from when it goes out"
            agent.prepare()
        stocked(three)
        for seed in seeds.rglob("*.seed"):
            seed.unlink()
        with three.agent() as agent:
            agent.prepare()


def test_what_a_restored_folder_brings_back_is_used_by_nobody(tmp_path, monkeypatch):
    """Two pictures under one mask show their difference to a provider that kept the first."""
    monkeypatch.setattr(packets_, "NAMED_WITHIN", 2 * 10**8)
    kept, name = tmp_path / "kept", f"{7:032x}"

    def opened():
        folder = (tmp_path / "own" / one for one in ("packets", "seeds"))
        return Packets(next(folder)), PacketSeeds(next(folder), keep_seconds=9.0)

    packets, seeds = opened()
    packets.put(name, [bytes(64)])
    seeds.put(name, bytes(32))
    shutil.copytree(tmp_path / "own", kept)
    time.sleep(0.4)
    assert packets.take().name == name, "the control: what has lain is good"
    assert seeds.renew(name)
    assert seeds.take(name) == bytes(32)
    for whole in (False, True):
        if whole:
            shutil.rmtree(tmp_path / "own")
        shutil.copytree(kept, tmp_path / "own", dirs_exist_ok=True)
        packets, seeds = opened()
        assert packets.take() is None
        assert not seeds.renew(name)
        with pytest.raises(PacketError, match="used before"):
            seeds.take(name)
        assert not [one for one in (tmp_path / "own").rglob("*") if one.is_file()]


def restored(kept, folder):
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)


@pytest.fixture
def whole_machines(monkeypatch):
    """A machine that is set back whole brings its files back as they were, inodes and all."""
    monkeypatch.setattr(packets_, "NAMED_WITHIN", 10**18)


def test_a_patient_s_machine_set_back_whole_has_nothing_to_use_again(tmp_path, whole_machines):
    with parties(tmp_path, artefact("logistic", SHAPE)) as three:
        ada = three.folder / "patients" / "ada"
        with three.agent() as agent:
            list(agent.fetch(2))
        shutil.copytree(ada, tmp_path / "kept")
        halves = [one.read_bytes()[:32] for one in three.folder.rglob("halves/*/*.seed")]
        assert len(halves) == 2
        for file in ada.rglob("*.packet"):
            assert not any(half in file.read_bytes() for half in halves), "tapes alone lie here"
        with three.agent() as agent:
            first, _ = agent.supply.opened()
        restored(tmp_path / "kept", ada)
        with three.agent() as agent:
            names = [agent.supply.opened()[0].name for _ in range(2)]
        assert first.name not in names


def test_a_dealer_s_machine_set_back_whole_is_seen_by_whoever_used_its_packet(
    tmp_path, whole_machines
):
    """A provider that kept the first of two pictures under one mask learns their difference."""
    with parties(tmp_path, artefact("logistic", SHAPE), patients=("ada", "ben")) as three:
        stocked(three)
        three.dealer.close()
        shutil.copytree(three.folder / "dealer", tmp_path / "kept")
        for patients in (("ada", "ben"), ("ada", "ada")):
            restored(tmp_path / "kept", three.folder / "dealer")
            for used in three.folder.rglob("used/*"):
                used.unlink()
            three.start_dealer()
            three.provider.close()
            three.start_provider()
            with three.agent(patients[0]) as agent:
                agent.prepare()
            three.dealer.close()
            restored(tmp_path / "kept", three.folder / "dealer")
            three.start_dealer()
            three.provider.close()
            three.start_provider()
            by_provider = patients[1] == "ben"
            said = "used here before" if by_provider else "was set back"
            with (
                three.agent(patients[1]) as agent,
                pytest.raises(Refusal if by_provider else LinkError, match=said),
            ):
                agent.prepare()
            three.dealer.close()


@pytest.mark.parametrize("end", ["patient", "provider"])
def test_a_dealer_that_gives_one_seed_twice_is_refused_by_whoever_had_it(
    tmp_path, monkeypatch, end
):
    """Under another id: what its accomplice saw of the first would open the second."""
    with parties(tmp_path, artefact("logistic", SHAPE)) as three:
        put = PacketSeeds.put
        same = bytes(range(32))

        def again(self, name, seed, whose=""):
            put(self, name, same if bool(whose) == (end == "patient") else seed, whose)

        monkeypatch.setattr(PacketSeeds, "put", again)
        stocked(three)
        with three.agent() as agent:
            if end == "provider":
                agent.supply.opened()  # of the stock: its seed is an honest one
            agent.prepare()
        kind = LinkError if end == "patient" else Refusal
        with three.agent() as agent, pytest.raises(kind, match="used here before"):
            agent.prepare()


def test_a_half_is_given_once_and_to_whom_its_packet_went(tmp_path):
    with parties(tmp_path, artefact("logistic", SHAPE), patients=("ada", "ben")) as three:
        with three.agent() as agent:
            list(agent.fetch(1))
            (file,) = agent.packets._folder.glob("*.packet")
        half = {"ask": "half", "model": three.provider.model, "packet": file.name[:32]}
        for patient, given in (("ben", False), ("ada", True), ("ada", False)):
            with three.agent(patient) as agent, agent.supply.dealer() as dealer:
                assert dealer.ask(half)["ok"] is given
                if given:
                    assert len(dealer.receive(32)) == 32


def test_seeds_that_are_too_old_are_removed_though_the_dealer_is_busy(tmp_path, monkeypatch):
    monkeypatch.setattr(dealers_, "_LOOK_SECONDS", 0.0)
    with parties(tmp_path, artefact("logistic", SHAPE)) as three:
        with three.agent() as agent:
            list(agent.fetch(1))
            stocked(three)
            folder = three.folder / "dealer"
            lain = [one for kind in ("seeds", "halves") for one in (folder / kind).rglob("*.seed")]
            assert {one.parts[-3] for one in lain} == {"seeds", "halves"}
            old = time.time() - 2 * KEEP_SECONDS
            for one in lain:
                os.utime(one, (old, old))
            list(agent.fetch(1))
        deadline = time.monotonic() + 10
        while any(one.exists() for one in lain) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(one.exists() for one in lain)


def test_ids_that_were_used_outlive_a_line_that_was_cut(tmp_path):
    used = Used(tmp_path / "model")
    names = [f"{number:032x}" for number in range(3)]
    assert used.first(names[0]) and used.first(names[1])
    (tmp_path / "model").write_bytes((tmp_path / "model").read_bytes()[:-10])
    assert used.first(names[2]) and not used.first(names[0]) and not used.first(names[2])


def test_a_mask_hides_one_rounding_of_the_weights_and_no_other(tmp_path, monkeypatch):
    """Of two under one mask whoever is given both knows the difference."""
    with parties(tmp_path, artefact("logistic", SHAPE)) as three:
        model = three.provider.model
        three.provider.close()
        three.start_provider()
        assert three.provider.model == model
        three.provider.close()
        of = Weights.of.__func__
        otherwise = classmethod(lambda cls, matrix, bias, name: of(cls, matrix + 1e-4, bias, name))
        monkeypatch.setattr(Weights, "of", otherwise)
        three.start_provider()
        assert three.provider.model != model


def test_a_model_whose_packets_cannot_be_made_keeps_no_other_from_its_own(tmp_path, monkeypatch):
    with parties(tmp_path, artefact("mlp", SHAPE), stock=2) as three:
        broken = three.provider.model
        three.provider.close()
        make = Dealer._make_one

        def fails(self, model):
            if model is self._models[broken]:
                raise MemoryError
            make(self, model)

        assert repr(three.dealer._models[broken].mask) not in repr(three.dealer._models)
        monkeypatch.setattr(Dealer, "_make_one", fails)
        for file in (three.folder / "dealer" / "stock").rglob("*.packet"):
            file.unlink()
        model = three.folder / "provider" / "predictor.safetensors"
        model.write_bytes(artefact("logistic", SHAPE).to_bytes())
        three.start_provider()
        stocked(three)
        with three.agent() as agent:
            assert list(agent.fetch(3)) == [1, 2, 3]


def convolution(**said):
    usual = {"inputs": (0,), "out": 1, "kernel": (1, 1), "stride": (1, 1), "padding": (0, 0)}
    return Convolution(**{**usual, **said})


HUGE = [
    ((1, 8, 8), convolution(stride=(2**24,) * 2, padding=(2**24,) * 2)),
    ((1, 4000, 4000), convolution(kernel=(2000, 2000))),
    ((2**20, 2), GroupNorm(inputs=(0,), groups=2**20, epsilon=1e-5)),
]


@pytest.mark.parametrize(("shape", "layer"), HUGE, ids=["padding", "kernel", "groups"])
def test_a_list_of_layers_that_would_fill_a_memory_is_no_program(shape, layer):
    rest = (
        Truncation(inputs=(1,), shift=16),
        Flattening(inputs=(2,)),
        Linear(inputs=(3,), out=2),
        Logits(inputs=(4,)),
    )
    with pytest.raises(ProgramError, match=r"layer 1 .*that makes"):
        Program(shape, (layer, *rest))


@pytest.mark.parametrize(
    ("address", "listening"),
    [("127.0.0.1:9471", "127.0.0.1:9471"), ("ward.example.org:9471", "0.0.0.0:9471")],
)
def test_a_party_listens_where_the_others_reach_it_and_no_wider(tmp_path, address, listening):
    model = tmp_path / "model.safetensors"
    model.write_bytes(artefact("logistic", SHAPE).to_bytes())
    list(found(tmp_path / "clinic", model, ["ada"], provider=address, dealer=address))
    for role in ("provider", "dealer"):
        assert read_folder(tmp_path / "clinic" / role, role).file.listen == listening
