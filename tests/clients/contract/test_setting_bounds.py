import math
import types
from typing import get_args, get_origin

import pytest
from pydantic import Field

from clients.contract.setting_group import Group, binds_of, kebab, since, since_of
from clients.contract.settings import GROUPS, Settings, SettingsError

FIELDS = {
    f"{group}.{kebab(name)}": field
    for group, model in GROUPS.items()
    for name, field in model.model_fields.items()
}
NOT_BOUND = {
    "audit.canaries",
    "audit.enabled",
    "data.dir",
    "run.attempts",
    "run.log-level",
    "run.out",
    "run.scenario",
    "run.threads",
    "run.device",
    "run.timeout",
    "run.together",
    "run.training-id",
    "tracking.wandb",
}
OWN = {"data.name", "data.public"}


def bound(field, *names):
    found = [getattr(one, name) for one in field.metadata for name in names if hasattr(one, name)]
    return found[0] if found else None


def unbounded(fields):
    """Numbers without a finite bound on either side, and texts of any length."""
    missing = []
    for key, field in fields.items():
        if field.annotation in (int, float):
            both = (bound(field, "ge", "gt"), bound(field, "le", "lt"))
            if not all(one is not None and math.isfinite(one) for one in both):
                missing.append(key)
        elif field.annotation is str and bound(field, "max_length") is None:
            missing.append(key)
    return missing


def test_every_number_has_two_finite_bounds_and_every_text_a_length():
    assert unbounded(FIELDS) == []
    known = {bool, int, float, str}
    for key, field in FIELDS.items():
        # A new type needs a bound of its own here.
        assert field.annotation in known or get_origin(field.annotation) is not None, key
        assert not isinstance(field.annotation, types.UnionType), key


def test_a_setting_without_bounds_would_be_found():
    class Careless(Group):
        number: int = Field(default=1, ge=0)
        text: str = ""
        sound: float = Field(default=1.0, gt=0, le=2)

    assert unbounded(Careless.model_fields) == ["number", "text"]


@pytest.mark.parametrize(
    "config",
    [
        {"training.rounds": 10**15},
        {"privacy.noise-multiplier": 1e300, "privacy.target-epsilon": 0.0},
        {"privacy.noise-multiplier": math.nan, "privacy.target-epsilon": 0.0},
        {"training.sampling-rate": 1e-300},
        {"privacy.l2-clip": 1e-30},
        {"exchange.local-steps": 10**9},
        {"partition.hospitals": 10**9},
        {"data.patients": 10**30},
        {"exchange.cut": "x" * 10_000},
    ],
)
def test_absurd_values_are_refused_before_anything_is_derived(config):
    with pytest.raises(SettingsError):
        Settings.from_config(config)


@pytest.mark.parametrize(("key", "field"), FIELDS.items())
def test_numbers_beyond_their_bounds_are_refused_and_the_bounds_said(key, field):
    if field.annotation not in (int, float):
        return
    kind = field.annotation
    for wrong in (kind(bound(field, "le", "lt") * 2 + 1), kind(bound(field, "ge", "gt") - 1)):
        with pytest.raises(SettingsError, match=f"{key} = .* is out of range; it must be >"):
            Settings.from_config({key: wrong})


def test_what_does_not_bind_a_training_is_listed_and_all_else_does():
    said = {key: binds_of(field) for key, field in FIELDS.items()}
    assert {key for key, binds in said.items() if binds == "no"} == NOT_BOUND
    assert {key for key, binds in said.items() if binds == "own"} == OWN
    assert {key for key, binds in said.items() if binds == "terms"} == set(said) - NOT_BOUND - OWN
    later = {key: since_of(field) for key, field in FIELDS.items() if since_of(field)}
    added = {"privacy.spare-attempts", "sealing.committee", "sealing.silent-holders"}
    added |= {"task.name"}
    added |= {"model.hidden", "model.stages", "model.tuned-stages", "model.side"}
    added |= {"data.holdout-from", "training.balance", "training.adversarial"}
    added |= {"exchange.server-rate", "exchange.second-decay", "exchange.adaptivity"}
    added |= {"exchange.loop", "exchange.group-size", "exchange.robust", "exchange.liars"}
    assert later == dict.fromkeys(added, "0.2")


def test_a_field_says_what_it_binds_and_since_when():
    class Later(Group):
        plain: int = 0
        added: int = Field(default=0, json_schema_extra=since("0.3"))
        wrong: int = Field(default=0, json_schema_extra={"binds": "perhaps"})

    fields = Later.model_fields
    assert (binds_of(fields["plain"]), since_of(fields["plain"])) == ("terms", "")
    assert (binds_of(fields["added"]), since_of(fields["added"])) == ("terms", "0.3")
    with pytest.raises(ValueError, match="perhaps"):
        binds_of(fields["wrong"])


def test_choices_are_bounded_by_their_list():
    for key, field in FIELDS.items():
        if get_origin(field.annotation) is not None:
            assert get_args(field.annotation), key
