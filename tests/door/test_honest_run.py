"""Real sites behind the real door answer an honest server to the end, in every exchange."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clients.contract.kinds import Kind
from tests.door.world import EXACT, LOCAL, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


@pytest.mark.parametrize(
    "changes",
    [{}, LOCAL, EXACT, {**LOCAL, "exchange__name": "weights", "exchange__local_steps": 2}],
    ids=["semi-central", "local", "exact", "local steps"],
)
def test_a_training_of_sums_ends_with_the_same_model_from_every_hospital(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    play = started(tmp_path, **changes)
    play.run()
    headers = play.confirm(3)
    models = [play.release(name, headers).round for name in play.names]
    assert all(one.model_round == 3 for one in models)
    for one in models[1:]:
        for key, tensor in models[0].model.items():
            assert np.array_equal(tensor, one.model[key])
    for name in play.names:
        kinds = play.sites.kinds(name)
        assert kinds[-1] == "end"
        assert kinds.count("spend") == kinds.count("seal") == kinds.count("close") == 3
