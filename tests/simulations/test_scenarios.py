"""Scenarios: files, what a command line lays on top, and what is wrong with either."""

import pytest

from clients.contract.settings import DEFAULTS, Settings, SettingsError
from simulations.scenario import (
    find_scenario,
    list_scenarios,
    read_assignments,
    resolve,
    split_run_config,
)


def test_every_scenario_of_the_app_is_sound_and_says_what_it_is():
    names = [one.name for one in list_scenarios()]
    assert names[0] == "default"
    assert "chest-xray" in names
    for one in list_scenarios():
        assert one.title and one.description
        assert resolve(one).run.scenario == one.name


def test_default_scenario_is_the_default_settings_on_public_data():
    config = resolve(find_scenario("default")).to_config()
    assert {k for k, v in config.items() if DEFAULTS[k] != v} == {"data.public"}


def test_the_last_word_is_the_command_lines():
    settings = resolve(
        find_scenario("default"),
        ["training.rounds=3", "privacy.regime=F", "run.seed=1"],
        {"run.seed": 7},
    )
    assert (settings.training.rounds, settings.privacy.regime, settings.run.seed) == (3, "F", 7)


def test_an_unknown_scenario_names_the_nearest():
    with pytest.raises(SettingsError, match="did you mean 'chest-xray'") as caught:
        find_scenario("chest-xrays")
    assert "default" in str(caught.value)


def test_a_scenario_may_be_any_toml_file(tmp_path):
    path = tmp_path / "My own.toml"
    path.write_text('title = "mine"\n[training]\nrounds = 4\n')
    scenario = find_scenario(str(path))
    assert scenario.title == "mine"
    assert resolve(scenario).training.rounds == 4
    assert resolve(scenario).run.scenario == "My-own"


def test_a_run_can_be_repeated_from_its_written_config(tmp_path):
    import tomli_w

    first = Settings.from_config({"training.rounds": 4, "run.scenario": "trial"})
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(first.to_tables()))
    assert resolve(find_scenario(str(path))) == first


@pytest.mark.parametrize("content", ["[training\nrounds = 1", "title = \xff"])
def test_a_file_that_is_no_toml_is_said_to_be_none(tmp_path, content):
    path = tmp_path / "broken.toml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(SettingsError, match="is no TOML"):
        find_scenario(str(path))


def test_a_missing_file_is_named():
    with pytest.raises(SettingsError, match=r"nowhere[.]toml cannot be read"):
        find_scenario("nowhere.toml")


def test_faults_of_texts_keys_names_and_values_come_together(tmp_path):
    path = tmp_path / "faulty.toml"
    path.write_text("[training]\nround = 4\n[data]\nname = 'breast-cancr'\n")
    with pytest.raises(SettingsError) as caught:
        resolve(find_scenario(str(path)), ["rounds", "privacy.delta=7", "model.name=logistics"])
    text = "\n".join(caught.value.faults)
    assert len(caught.value.faults) == 5
    for part in ("write key=value", "training.rounds", "'breast-cancer'", "< 1", "'logistic'"):
        assert part in text


def test_a_variant_after_a_colon_is_left_to_its_own_table():
    settings = resolve(find_scenario("default"), ["model.name=mine.nets:tiny"])
    assert settings.model.name == "mine.nets:tiny"


def test_values_are_toml_and_otherwise_text():
    values, faults = read_assignments(
        ["a=1", "b=1e-3", "c=true", "d=FPDP", 'e="x y"', "f=~/data", "g=1=2", "h="]
    )
    assert not faults
    assert values == {
        "a": 1, "b": 1e-3, "c": True, "d": "FPDP", "e": "x y", "f": "~/data", "g": "1=2", "h": "",
    }  # fmt: skip
    assert type(values["a"]) is int


def test_flowers_run_config_text_is_split_as_flower_does(tmp_path):
    text = "training.rounds=3 data.dir='/a b/c' run.scenario=\"x\""
    values, faults = read_assignments(split_run_config(text))
    assert not faults
    assert values == {"training.rounds": 3, "data.dir": "/a b/c", "run.scenario": "x"}
    path = tmp_path / "c.toml"
    path.write_text("[training]\nrounds = 3\n[data]\npublic = true\ndir = 'x y'\n")
    values, _ = read_assignments(split_run_config(str(path)))
    assert values == {"training.rounds": 3, "data.public": True, "data.dir": "x y"}


@pytest.mark.parametrize(
    ("assignments", "public"),
    [
        ([], True),
        (["data.name=digits"], True),
        (["data.name=csv:visits.csv"], False),
        (["data.name=my_hospital:cohort"], False),
        (["data.name=csv:visits.csv", "data.public=true"], True),
    ],
)
def test_data_of_ones_own_are_not_public_because_a_scenarios_are(assignments, public):
    assert resolve(find_scenario("default"), assignments).data.public is public
