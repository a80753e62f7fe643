"""What a hospital's file says about limits: what is refused, and what the template promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from accounting import lines
from accounting.against import views_of_spend
from accounting.book import Book
from accounting.calibration import noise_multiplier_for
from accounting.chain import Flush
from accounting.errors import LimitRefused
from accounting.events import GaussianEvent
from accounting.limits import SpendRequest
from accounting.noise import make_noise_plan
from clients.contract.setting_tree import Privacy
from clients.contract.training_settings import Training
from clients.site.site_file import SiteFile, SiteFileError, read_site_file
from deployment.checks import check_site
from deployment.site_template import MARGIN, TARGET, cost_of_a_usual_run, site_text


class Place(NamedTuple):
    training: str
    round: int
    attempt: int


def written(tmp_path: Path, limits: str) -> Path:
    file = tmp_path / "site.toml"
    file.write_text(f'hospital = "a"\n[data]\nname = "x"\n[limits]\n{limits}\n')
    return file


def template(tmp_path: Path, hospitals: int) -> SiteFile:
    text = site_text(
        hospital="a",
        superlink="fl.example.org:9092",
        data={"name": "npz:scans.npz"},
        pins={chr(97 + n): "SHA256:" + "a" * 43 for n in range(hospitals)},
        test_mode=False,
        allowed_apps=[],
    )
    (tmp_path / "site.toml").write_text(text)
    return read_site_file(tmp_path / "site.toml")


def test_limits_are_refused_with_all_their_faults_at_once(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "max-epsilon = nan\nmin-noise-multiplier = -1.0\nallowed-regimes = ['DP']\n"
        "against = 'everybody'",
    )
    with pytest.raises(SiteFileError) as caught:
        read_site_file(file)
    found = caught.value.faults
    assert [fault.split(",")[0].split(" is")[0] for fault in found] == [
        "[limits] max-epsilon = nan",
        "[limits] min-noise-multiplier = -1.0",
        "[limits] allowed-regimes = ['DP']",
        "[limits] against = 'everybody'",
        "[limits] delta",
    ]
    assert all("expected" in fault for fault in found)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("max-epsilon = inf\ndelta = 1e-5", "max-epsilon = inf, expected a finite number above 0"),
        ("max-epsilon = 0\ndelta = 1e-5", "max-epsilon = 0, expected"),
        ("max-epsilon = -2.0\ndelta = 1e-5", "max-epsilon = -2.0, expected"),
        ("max-epsilon = 2.0", "delta is missing, and max-epsilon = 2.0 needs one"),
        ("delta = 1.0", "delta = 1.0, expected a number between 0 and 1"),
        ("delta = nan", "delta = nan, expected"),
        ("min-noise-multiplier = nan", "min-noise-multiplier = nan, expected"),
        ("against = 'colluders:0'", "against = 'colluders:0', expected \"server\""),
        ("against = 'colluders:65'", "hospitals from 1 to 64"),
        ("against = 2", "against = 2, expected text"),
    ],
)
def test_a_bad_limit_is_named_with_its_value_and_what_is_expected(
    tmp_path: Path, line: str, said: str
) -> None:
    with pytest.raises(SiteFileError) as caught:
        read_site_file(written(tmp_path, line))
    [fault] = caught.value.faults
    assert said in fault and fault.startswith("[limits]")


def test_a_limit_is_against_any_one_other_hospital_unless_the_file_says_otherwise(
    tmp_path: Path,
) -> None:
    lines_ = "max-epsilon = 2.0\ndelta = 1e-5\n"
    assert str(read_site_file(written(tmp_path, lines_)).limits.against) == "hospital"
    for word in ("server", "colluders:3", "server+hospitals:2"):
        file = written(tmp_path, f"{lines_}against = '{word}'")
        assert str(read_site_file(file).limits.against) == word


def test_a_check_says_against_whom_the_limit_is(tmp_path: Path) -> None:
    written(tmp_path, "max-epsilon = 2.0\ndelta = 1e-5\nagainst = 'colluders:3'")
    said = [finding.text for finding in check_site(tmp_path)]
    assert any("at most 2 at delta 1e-05 against any 3 other hospitals" in text for text in said)


@pytest.mark.parametrize("hospitals", [2, 3, 10])
def test_the_templates_limit_lets_one_usual_run_pass_with_the_margin_that_it_states(
    tmp_path: Path, hospitals: int
) -> None:
    site = template(tmp_path, hospitals)
    assert site.limits.max_epsilon is not None and site.limits.delta is not None
    counted = cost_of_a_usual_run(hospitals)
    assert site.limits.max_epsilon >= counted * (1.0 + MARGIN)
    told = re.search(r"counts ([0-9.]+) at most", (tmp_path / "site.toml").read_text())
    assert told and float(told[1]) == pytest.approx(counted, abs=0.005)
    rounds = _run(tmp_path, site, hospitals, trainings=("first", "second"))
    assert rounds["first"] == Training().rounds
    assert rounds["second"] < Training().rounds


def _run(
    folder: Path, site: SiteFile, hospitals: int, trainings: tuple[str, ...]
) -> dict[str, int]:
    """Rounds that the site's limits let usual runs of the target have, one after the other."""
    usual = Training()
    sigma = noise_multiplier_for(
        target_epsilon=TARGET,
        delta=Privacy().delta,
        sampling_rate=usual.sampling_rate,
        rounds=usual.rounds,
        accountant=Privacy().accountant,
    )
    plan = make_noise_plan("semi-central", noise_multiplier=sigma, hospitals=hospitals)
    views = views_of_spend(plan, regime="FSCDP", exchange="gradients", scheme="bfv")
    event = GaussianEvent(sampling_rate=usual.sampling_rate, noise_multiplier=sigma)
    done = dict.fromkeys(trainings, 0)
    digests = {"terms": "T", "own": "O", "members": "M", "code": "C"}
    with Book(folder / "b.jsonl", site="a", cohort="c", flush=Flush.WRITE) as book:
        for training in trainings:
            bind = lines.bind(training, **digests, rounds=usual.rounds, spare=0, failures=3)
            book.append(bind, lines.keyed(training, keys="K"))
            asked = SpendRequest(
                regime="FSCDP",
                event=event,
                hospitals=hospitals,
                noise_multiplier=sigma,
                delta=Privacy().delta,
                training=training,
                purpose="gradients",
                views=views,
            )
            for number in range(1, usual.rounds + 1):
                try:
                    book.spend(
                        Place(training, number, 1),
                        event,
                        purpose="gradients",
                        views=views,
                        check=lambda account, asked=asked: site.limits.check(asked, account),
                    )
                except LimitRefused:
                    break
                book.append(lines.adopt(training, round=number, chain="c"))
                done[training] = number
    return done
