"""The settings: one tree, checked as a whole, the same as the app's config table."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pydantic
import pytest

from clients.contract.settings import DEFAULTS, Settings, SettingsError, describe_keys

ROOT = Path(__file__).parents[3]


def flatten(table, prefix=""):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def faults(config, **kwargs):
    with pytest.raises(SettingsError) as caught:
        Settings.from_config(config, **kwargs)
    return caught.value.faults


def test_app_config_table_carries_every_key_with_its_default():
    app = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    table = dict(flatten(app["config"]))
    assert table == DEFAULTS
    assert {k: type(v) for k, v in table.items()} == {k: type(v) for k, v in DEFAULTS.items()}


def test_config_goes_there_and_back():
    config = {**DEFAULTS, "training.sampling-rate": 0.05, "privacy.regime": "FPDP", "run.seed": 3}
    settings = Settings.from_config(config)
    assert settings.training.sampling_rate == 0.05
    assert settings.to_config() == config
    assert Settings.from_config(settings.to_config()) == settings


def test_left_out_keys_keep_their_defaults():
    assert Settings.from_config({}) == Settings()
    assert Settings.from_config({}).to_config() == DEFAULTS


def test_every_key_is_described():
    assert all(describe_keys().values())
    assert list(describe_keys()) == list(DEFAULTS)


def test_settings_do_not_change():
    with pytest.raises(pydantic.ValidationError):
        Settings().training.rounds = 3
    assert Settings().with_config({"training.rounds": 3}).training.rounds == 3


def test_whole_numbers_serve_as_numbers_and_stay_numbers():
    value = Settings.from_config({"training.learning-rate": 2}).training.learning_rate
    assert (value, type(value)) == (2.0, float)


def test_all_faults_are_said_at_once():
    found = faults(
        {
            "training.round": 3,
            "sampling-rate": 0.1,
            "privacy.regime": "fscdp",
            "data.public": "yes",
            "training.rounds": 2.5,
            "privacy.delta": 1.5,
            "privacy.dropouts": 11,
            "data.name": "brest",
        },
        known={"data.name": ["breast-cancer", "heart-disease"]},
    )
    assert len(found) == 8
    text = "\n".join(found)
    for part in (
        "did you mean training.rounds?",
        "did you mean training.sampling-rate?",
        "did you mean 'FSCDP'?",
        "'yes' is text; it must be true or false",
        "2.5 is a number; it must be a whole number",
        "it must be > 0 and < 1",
        "leaves nobody",
        "did you mean 'breast-cancer'?",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"training.sampling-rate": 0.0}, ">= 1e-09 and <= 1"),
        ({"training.sampling-rate": 1.01}, ">= 1e-09 and <= 1"),
        ({"privacy.delta": 0.0}, "> 0 and < 1"),
        ({"privacy.l2-clip": float("nan")}, "finite"),
        ({"privacy.l2-clip": 1e-30}, ">= 1.0842e-19"),
        ({"training.rounds": True}, "whole number"),
        ({"run.seed": -2}, ">= -1"),
        ({"run.scenario": "../x"}, "letters, digits"),
        ({"exchange.name": "gradient"}, "did you mean 'gradients'"),
        ({"data.name": ""}, "must name something"),
    ],
)
def test_a_value_out_of_range_is_refused(config, part):
    (found,) = faults(config)
    assert part in found
    assert next(iter(config)) in found


GROUPS = {"exchange.group-size": 2, "exchange.robust": "median"}


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"privacy.noise-multiplier": 1.15}, "both set"),
        ({"privacy.target-epsilon": 0}, "both 0"),
        ({"sealing.scheme": "plain"}, "1/sqrt(K)"),
        ({"sealing.scheme": "ckks"}, "use bfv"),
        ({"audit.canaries": 5}, "too few to show anything"),
        ({"sealing.scheme": "modular"}, "does not encrypt"),
        ({"partition.hospitals": 1}, ">= 2"),
        ({"privacy.dropouts": 5, "privacy.colluders": 5}, "leaves nobody"),
        ({"partition.sites": "lyon,turin"}, "names 2 hospitals, partition.hospitals = 10"),
        ({"partition.sites": "lyon,lyon", "partition.hospitals": 2}, "each once"),
        ({"exchange.robust": "median"}, "set exchange.group-size"),
        ({"exchange.liars": 2}, "are about sums of groups"),
        ({"exchange.group-size": 2}, "adds them up again"),
        ({**GROUPS, "exchange.group-size": 3}, "does not divide"),
        ({**GROUPS, "exchange.group-size": 5}, "makes 2 groups of 10 hospitals; median needs 3"),
        ({**GROUPS, "exchange.robust": "bulyan"}, "bulyan needs 7 where exchange.liars = 1"),
        ({**GROUPS, "exchange.liars": 3}, "median needs 7"),
        ({**GROUPS, "exchange.name": "cyclic", "privacy.regime": "FPDP"}, "updates that are sum"),
        ({**GROUPS, "privacy.regime": "CDP"}, "pooled data are in no groups"),
        ({**GROUPS, "exchange.group-size": 1}, "every update would be opened by itself"),
        (
            {**GROUPS, "exchange.group-size": 1, "privacy.regime": "FPDP"},
            "every update would be opened by itself",
        ),
        (
            {
                "exchange.group-size": 1,
                "exchange.robust": "bulyan",
                "privacy.regime": "FPDP",
                "sealing.scheme": "plain",
                "privacy.dropouts": 4,
            },
            "may leave 6 updates; bulyan needs 7",
        ),
        ({**GROUPS, "privacy.dropouts": 1, "privacy.colluders": 1}, "leaves nobody of exchange"),
        (
            {**GROUPS, "sealing.scheme": "one-time", "privacy.dropouts": 1},
            "shares of keys are of the sum of all hospitals",
        ),
    ],
)
def test_an_unsound_combination_is_refused_with_its_reason(config, part):
    assert any(part in fault for fault in faults(config))


@pytest.mark.parametrize(
    "config",
    [
        {"sealing.scheme": "modular", "run.seed": 0},
        {"privacy.regime": "F", "privacy.noise-multiplier": 1.15},
        {"privacy.target-epsilon": 0, "privacy.noise-multiplier": 1.15},
        {"privacy.dropouts": 4, "privacy.colluders": 5},
        {"privacy.regime": "FPDP", "partition.hospitals": 1},
        {"partition.sites": "lyon, turin", "partition.hospitals": 2},
        {"exchange.group-size": 2, "exchange.robust": "trimmed-mean", "exchange.liars": 2},
        {"exchange.group-size": 2, "exchange.robust": "krum", "privacy.dropouts": 1},
        {
            "exchange.group-size": 1,
            "exchange.robust": "bulyan",
            "privacy.regime": "FPDP",
            "sealing.scheme": "plain",
        },
    ],
)
def test_a_sound_combination_is_accepted(config):
    assert Settings.from_config(config).to_config() == {**DEFAULTS, **config}


def test_a_faulty_value_hides_no_other_combination():
    found = faults({"privacy.delta": 2.0, "privacy.noise-multiplier": 1.0})
    assert len(found) == 2


def test_constructor_checks_combinations_too():
    with pytest.raises(pydantic.ValidationError, match="both set"):
        Settings(privacy={"noise-multiplier": 1.0})


def test_reading_settings_loads_no_heavy_library():
    heavy = "{'torch', 'flwr', 'opacus', 'numpy', 'tenseal', 'ray', 'sklearn'}"
    code = (
        "import sys, clients.contract.settings as s; s.Settings.from_config({});"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
