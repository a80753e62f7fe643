"""The command that attacks: what it lists, keeps, shows and refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from simulations.attacks import (
    gradient_inversion,
    membership,
    membership_rounds,
    poisoning,
    property_inference,
    visual_privacy,
)
from simulations.attacks.catalogue import ATTACKS
from simulations.cli import main
from tests.simulations.made_runs import start_run

#: Gradient inversion in a second: bundled digits, one hidden layer, three hospitals.
QUICK = [
    "attack", "gradient-inversion", "default", "--set", "data.name=digits",
    "--set", "model.name=mlp", "--set", "partition.hospitals=3", "--epsilons", "1",
]  # fmt: skip
WHOLE = [*QUICK, "--regimes", "F,FPDP,FSCDP", "--trials", "50"]
LEAST = ["attack", "linkage", "default", "--regimes", "F", "--set", "data.holdout=0.8"]
LITTLE = [*QUICK, "--regimes", "FSCDP", "--trials", "20"]

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacked")
    assert main([*WHOLE, "--out", str(folder)]) == 0
    return folder / "attack-default"


def rows_of(path):
    found = json.loads((path / "attacks.json").read_text())["gradient-inversion"]
    return {(row["way"], row["sees"]): row for row in found["rows"]}, found


def test_attacks_are_listed_with_their_sources(capsys):
    assert main(["attack", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ATTACKS)
    assert "picks a row (200)" in " ".join(out.split())
    assert main(["attack", "list", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(ATTACKS)


def test_what_is_listed_of_trials_is_what_each_attack_does():
    own = {
        "gradient-inversion": gradient_inversion.TRIALS,
        "membership": membership.MODELS,
        "membership-rounds": membership_rounds.MODELS,
        "poisoning": poisoning.SEEDS,
        "property-inference": property_inference.GAMES,
        "visual-privacy": visual_privacy.TRIALS,
    }
    assert {name: one.own_trials for name, one in ATTACKS.items() if one.trials} == own


def test_the_control_is_rebuilt_and_what_is_noised_is_not(attacked):
    rows, found = rows_of(attacked)
    control = rows["F", "a single update, unsealed"]
    assert found["control"]["succeeded"]
    assert control["ssim"] > 0.95
    assert control["picked"] == 1.0
    assert control["run_epsilon"] is None
    guess = rows["-", "nothing (a guess)"]
    for way, sees in (
        ("FPDP, epsilon 1", "a single update"),
        ("FPDP, epsilon 1", "the sum"),
        ("FSCDP, epsilon 1", "the sum"),
    ):
        assert rows[way, sees]["ssim"] < guess["ssim"] + 0.15
        assert rows[way, sees]["picked"] <= rows[way, sees]["allowed"] + 0.2
        assert rows[way, sees]["run_epsilon"] <= 1.02


def test_each_regime_is_attacked_with_a_seal_and_without(attacked):
    rows, found = rows_of(attacked)
    assert {"key": "sealed", "title": "Sealed", "form": "text"} in found["columns"]
    for way in ("F", "FPDP, epsilon 1", "FSCDP, epsilon 1"):
        seen = {row["sealed"]: row for (one, _), row in rows.items() if one == way}
        assert set(seen) == {"no", "yes"}
        assert seen["yes"]["allowed"] <= seen["no"]["allowed"]
    single, whole = rows["FPDP, epsilon 1", "a single update"], rows["FPDP, epsilon 1", "the sum"]
    assert whole["noise"] == pytest.approx(single["noise"] * np.sqrt(3))
    assert single["run_epsilon"] == pytest.approx(1.0, abs=0.02)


def test_a_share_shows_more_than_the_sum(attacked):
    rows, _ = rows_of(attacked)
    share = rows["FSCDP, epsilon 1", "a single share"]
    whole = rows["FSCDP, epsilon 1", "the sum"]
    assert share["noise"] == pytest.approx(whole["noise"] / np.sqrt(3))
    assert share["run_epsilon"] > 1.5 * whole["run_epsilon"]
    assert share["allowed"] > whole["allowed"]


def test_a_scenario_has_a_page_with_pictures(attacked):
    page = (attacked / "report.html").read_text()
    assert "records that come back from one round" in page
    assert 'id="figure-attack-gradient-inversion"' in page
    assert (attacked / "figures" / "attack-gradient-inversion.png").is_file()


def test_the_same_seed_finds_the_same(capsys):
    found = []
    for seed in ("0", "0", "1"):
        assert main([*LEAST, "--seed", seed, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["rows"])
    assert found[0] == found[1] != found[2]


def test_noise_that_is_left_out_is_an_alarm(monkeypatch, capsys):
    monkeypatch.setattr("simulations.attacks.one_round.noised_unpaid", lambda values, *rest: values)
    assert main(LITTLE) == 1
    said = capsys.readouterr().err
    assert "no attack should be right more often" in said


def test_an_attack_that_fails_at_its_control_says_so(monkeypatch, capsys):
    monkeypatch.setattr(
        "simulations.attacks.inversion.LinearStart.inverted",
        lambda self, update, stddev, prior: prior.mean,
    )
    assert main(LITTLE) == 1
    assert "does not work where nothing protects" in capsys.readouterr().err
    page = Path("runs/attack-default/report.html").read_text()
    assert "Shows nothing" in page


@pytest.mark.exhaustive
def test_pictures_of_patients_are_not_kept_unless_they_are_public(tmp_path):
    assert main([*LITTLE, "--set", "data.public=false"]) == 0
    found = json.loads(Path("runs/attack-default/attacks.json").read_text())
    assert found["gradient-inversion"]["drawn"] == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["attack", "gradient-invasion"], "did you mean 'gradient-inversion'?"),
        (["attack", "gradient-inversion", "default", "--regimes", "G"], "regime 'G' is none of"),
        (["attack", "gradient-inversion", "default", "--epsilons", "-1"], "must be positive"),
        (["attack", "gradient-inversion", "default", "--epsilons", "a"], "write numbers"),
        (
            ["attack", "gradient-inversion", "default", "--set", "privacy.regime=FPDP",
             "--set", "exchange.name=cyclic"],
            "updates that are summed",
        ),
        (["attack", "gradient-inversion", "mnist"], "learns from fixed features"),
        (["attack", "linkage", "default", "--trials", "3"], "tried more than once"),
        (["attack", "all", "default", "--trials", "3"], "each attack counts something else"),
    ],
)  # fmt: skip
def test_what_cannot_be_attacked_is_said(words, said, capsys):
    assert main(words) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not Path("runs").exists()


@pytest.mark.parametrize("text", ['{"linkage": ', "[1]", '{"linkage": 3}'])
def test_a_place_in_which_nothing_can_be_kept_is_refused_before_the_attack(text, capsys):
    file = Path("runs/attack-default/attacks.json")
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert main(LEAST) == 2
    assert "attacks.json is damaged" in " ".join(capsys.readouterr().err.split())
    assert file.read_text() == text
    Path("taken").write_text("")
    assert main([*LEAST, "--out", "taken"]) == 2
    assert "is a file" in " ".join(capsys.readouterr().err.split())


def test_who_reads_a_page_while_another_takes_its_place_reads_the_whole_of_it():
    """One that is cut short would stay where a machine fails while it is written."""
    assert main([*LEAST, "--out", "."]) == 0
    folder = Path("attack-default")
    files = [folder / "report.html", *sorted((folder / "figures").iterdir())]
    before = [file.read_bytes() for file in files]
    held = [file.open("rb") for file in files]
    assert main([*LEAST, "--out", "."]) == 0
    assert len(files) > 1 and [one.read() for one in held] == before
    assert all(file.stat().st_ino != os.fstat(one.fileno()).st_ino
               for file, one in zip(files, held, strict=True))  # fmt: skip
    for one in held:
        one.close()


def test_what_is_named_twice_is_attacked_once_and_one_game_is_no_control(capsys):
    words = ["attack", "property-inference", "default", "--regimes", "F,F", "--trials", "1"]
    assert main([*words, "--json"]) == 1
    said = capsys.readouterr()
    assert [row["sealed"] for row in json.loads(said.out)["rows"]] == ["no", "yes"]
    assert "does not work where nothing protects" in " ".join(said.err.split())


def test_a_run_of_real_hospitals_is_refused(capsys):
    start_run(Path("superlink") / "runs" / "one")
    assert main(["attack", "gradient-inversion", "superlink/runs/one"]) == 2
    assert "is no simulated run" in capsys.readouterr().err


def test_records_in_a_real_hospitals_folder_are_refused(capsys, monkeypatch):
    Path("clinic/data").mkdir(parents=True)
    Path("clinic/site.toml").write_text("")
    Path("clinic/data/patients.csv").write_text("a,label\n1,0\n")
    words = ["attack", "gradient-inversion", "default"]
    assert main([*words, "--set", "data.name=csv:clinic/data/patients.csv"]) == 2
    assert "makes a real hospital's" in capsys.readouterr().err
    assert main([*words, "--set", "data.dir=clinic/data"]) == 2
    Path("link").symlink_to(Path("clinic/data").absolute())
    assert main([*words, "--set", "data.dir=link"]) == 2
    monkeypatch.setenv("ASCLEPIAS_DATA", "clinic/data")
    assert main(words) == 2


ROWS = "a,label\n" + "".join(f"{row / 400},{row % 2}\n" for row in range(400))
DECLARED = 'target = "label"\nclasses = ["0", "1"]\n[ranges]\na = [0, 1]\n'


@pytest.mark.parametrize(
    "told",
    [
        ["data.name=csv:mine/*.csv", "data.dir=."],
        ["data.name=csv:a.csv", "data.dir=mine"],
        ["data.name=csv:../clinic/data/a.csv", "data.dir=mine"],
        ["data.name=csv:own.csv", "data.holdout-from=csv:clinic/data/a.csv"],
        ["data.name=csv:own.csv", "data.holdout-from=csv:mine/a.csv"],
    ],
)
def test_a_real_hospitals_file_is_refused_by_whatever_name_it_comes(told, capsys):
    for folder in ("clinic/data", "mine"):
        Path(folder).mkdir(parents=True)
    for file in ("mine/dataset", "mine/a", "clinic/data/a", "own"):
        Path(f"{file}.toml").write_text(DECLARED)
    for name in ("a", "b"):
        Path(f"clinic/data/{name}.csv").write_text(ROWS)
        Path(f"mine/{name}.csv").symlink_to(Path(f"clinic/data/{name}.csv").absolute())
    Path("own.csv").write_text(ROWS)
    words = ["attack", "property-inference", "default", "--regimes", "F", "--trials", "100"]
    for one in [*told, "partition.hospitals=2"]:
        words += ["--set", one]
    assert main(words) == 0, capsys.readouterr().err  # the control: nobody's folder yet
    file = Path("runs/attack-default/attacks.json")
    file.unlink()
    Path("clinic/site.toml").write_text("")
    assert main(words) == 2
    assert "makes a real hospital's" in " ".join(capsys.readouterr().err.split())
    assert not file.exists()


def test_a_run_is_attacked_as_it_was(capsys):
    run = Path("runs/one")
    start_run(run)
    (run / "sites").mkdir()
    assert main(["attack", "gradient-inversion", "one", "--set", "model.name=mlp"]) == 2
    assert "attacked as it was" in capsys.readouterr().err
    assert main(["attack", "gradient-inversion", "one"]) == 2
    assert "has released no model" in capsys.readouterr().err


def test_all_attacks_are_carried_out_and_those_that_do_not_apply_are_named(monkeypatch, capsys):
    quick = {name: ATTACKS[name] for name in ("gradient-inversion", "property-inference")}
    monkeypatch.setattr("simulations.attacks.catalogue.ATTACKS", quick)
    monkeypatch.setattr("simulations.attacks.gradient_inversion.TRIALS", 20)
    words = ["attack", "all", "default", "--regimes", "FSCDP", "--epsilons", "1"]
    assert main([*words, "--set", "partition.hospitals=3", "--set", "data.holdout=0.05"]) == 0
    said = capsys.readouterr()
    assert "page: runs/attack-default/report.html" in said.out
    assert "left out, how common a class is at a hospital" in " ".join(said.err.split())
    assert list(json.loads(Path("runs/attack-default/attacks.json").read_text())) == [
        "gradient-inversion"
    ]


def test_a_run_that_is_attacked_shows_it_in_its_report(capsys):
    from clients.data import Cohorts
    from simulations.engines.direct_transport import train_here
    from simulations.scenario import find_scenario, resolve

    run = Path("runs/one")
    run.mkdir(parents=True)
    told = ["partition.hospitals=3", "training.rounds=2", "audit.enabled=false"]
    told += [
        "tracking.wandb=disabled",
        "sealing.scheme=modular",
        "privacy.target-epsilon=2",
        "run.seed=1",
    ]
    train_here(resolve(find_scenario("default"), told, {"run.out": str(run.absolute())}), Cohorts())
    words = ["attack", "property-inference", "one", "--regimes", "FSCDP", "--trials", "20"]
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["way"] for row in rows} == {"F", "FSCDP, epsilon 2"}
    assert 'id="attack-property-inference"' in (run / "report.html").read_text()
    assert (run / "figures" / "attack-property-inference.svg").is_file()


@pytest.mark.parametrize(
    "more",
    [
        ["privacy.dropouts=2"],
        ["sealing.scheme=one-time", "privacy.dropouts=2", "sealing.silent-holders=1"],
        ["privacy.colluders=2"],
    ],
)
def test_every_regime_is_attacked_with_the_noise_that_was_asked_for(more):
    from clients.contract.terms import noise_plan
    from simulations.attacks.ground import Ground
    from simulations.scenario import find_scenario, resolve

    ground = Ground(settings=resolve(find_scenario("default"), more, {}), epsilons=(1.0,))
    told = {way.regime: ground.told(way) for way in ground.ways()}
    assert set(told) == {"C", "CDP", "F", "FPDP", "FSCDP"}
    share = noise_plan(told["FSCDP"], 4.0).multiplier_of_update
    assert share == pytest.approx(4.0 / np.sqrt(8))
