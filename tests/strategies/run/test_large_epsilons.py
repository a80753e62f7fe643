"""Trainings of epsilons that PRV cannot compute: RDP plans and accounts for them alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from accounting.accountants import epsilon
from accounting.errors import AccountingError
from accounting.events import GaussianEvent
from tests.exchange_runs import read_json, recorded, run_app
from tests.in_process import small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


@pytest.mark.parametrize("noise", [{"target": 1000.0}, {"sigma": 0.045}], ids=["target", "sigma"])
def test_a_run_is_accounted_for_by_rdp_where_prv_has_no_epsilon(
    tmp_path: Path, noise: dict[str, float]
) -> None:
    settings = small_settings(
        tmp_path,
        privacy__accountant="rdp",
        privacy__target_epsilon=noise.get("target", 0.0),
        privacy__noise_multiplier=noise.get("sigma", 0.0),
    )
    run_app(settings)
    summary, privacy = (read_json(settings, f"{name}.json") for name in ("summary", "privacy"))
    assert summary["status"] == "finished"
    event = GaussianEvent(
        sampling_rate=settings.training.sampling_rate,
        noise_multiplier=summary["noise_multiplier"],
        count=settings.training.rounds,
    )
    with pytest.raises(AccountingError):
        epsilon([event], settings.privacy.delta, "prv")
    assert list(summary["epsilon"]) == ["rdp"]
    server = privacy["observers"][0]
    assert list(server["epsilon"]) == ["rdp"] and "use the rdp accountant" in server["why"]
    assert all(one["epsilon_prv"] is None for one in recorded(settings, "release"))
