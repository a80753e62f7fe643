"""A packet serves the model it was made for, whole, and nothing else."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from some_models import artefact
from three_parties import parties

from crypto.inference.activations import Relu
from crypto.inference.answers import Logits
from crypto.inference.links import Refusal
from crypto.inference.programs import Program
from crypto.inference.rehearsal import Seeds
from crypto.inference.sources import DealerSource, ProviderSource
from deployment.inference.dealers import KEEP_SECONDS

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
            agent.packets.put(old.stem, [old.read_bytes() + bytes(1 << 20)])
            with pytest.raises(Refusal, match="no such packet of this model") as error:
                agent.prepare()
            assert error.value.reason == "packet"
        with three.agent() as agent:
            agent.prepare()


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
            assert lain.stat().st_mtime > time.time() - 60, "seven days from when it goes out"
            agent.prepare()
        stocked(three)
        for seed in seeds.rglob("*.seed"):
            seed.unlink()
        with three.agent() as agent:
            agent.prepare()
