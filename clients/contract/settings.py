"""The settings of a training: read once, checked as a whole, never changed afterwards.

One frozen tree with the groups of ``[tool.flwr.app.config]``. Python names are snake_case, the
keys that people and Flower write are dotted kebab-case: ``settings.training.sampling_rate`` is
``training.sampling-rate``.

    >>> settings = Settings.from_config({"privacy.regime": "FPDP", "training.rounds": 20})
    >>> settings.to_config()["training.sampling-rate"]
    0.2

Flower's config values are bool, int, float or str, so ``""``, ``-1`` and ``0`` mean "not set".
What is wrong is said all at once, in one `SettingsError`. This module is imported by every
process of a run and stays light: neither torch nor Flower nor Opacus is imported here.
"""

from collections.abc import Collection, Mapping
from typing import Self

from pydantic import ValidationError, model_validator

from clients.contract.combinations import combination_faults
from clients.contract.setting_faults import unknown_key, unknown_name, value_fault
from clients.contract.setting_group import Group, kebab
from clients.contract.setting_tree import SettingTree

ConfigValue = bool | int | float | str
"""What Flower's config can carry."""


class SettingsError(ValueError):
    """Settings that cannot be used; ``faults`` holds a sentence for every one of them."""

    def __init__(self, faults: Collection[str]):
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))


class Settings(SettingTree):
    """Everything a training was told, complete and checked.

    Raises:
        SettingsError: From `from_config` and `with_config`, with every fault at once.
        pydantic.ValidationError: From the constructor itself.
    """

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if faults := combination_faults(self):
            raise ValueError("\n".join(faults))
        return self

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, ConfigValue],
        *,
        known: Mapping[str, Collection[str]] | None = None,
    ) -> "Settings":
        """Read dotted kebab-case keys; keys left out keep their defaults.

        Args:
            config: Values by key, as Flower's run config gives them.
            known: The names that a key may carry, for keys whose variants are registered
                elsewhere (data sets, partitions, models).

        Raises:
            SettingsError: With all faults: unknown keys and names (with the nearest valid
                one), wrong types, values out of range, combinations that are not sound.
        """
        faults = [unknown_key(key, DEFAULTS) for key in config if key not in DEFAULTS]
        faulty: set[str] = set()
        groups: dict[str, Group] = {}
        given: dict[str, dict[str, ConfigValue]] = {group: {} for group in GROUPS}
        for key, value in config.items():
            if key in DEFAULTS:
                group, _, name = key.partition(".")
                given[group][name] = value
        for group, model in GROUPS.items():
            values = given[group]
            try:
                groups[group] = model(**values)
            except ValidationError as error:
                found = {
                    f"{group}.{e['loc'][0]}": value_fault(group, model, e) for e in error.errors()
                }
                faulty |= found.keys()
                faults += found.values()
                groups[group] = model(
                    **{k: v for k, v in values.items() if f"{group}.{k}" not in found}
                )
        for key, names in (known or {}).items():
            value = config.get(key, DEFAULTS[key])
            if key not in faulty and value not in names:
                faulty.add(key)
                faults.append(unknown_name(key, str(value), names))
        settings = cls.model_construct(**groups)  # type: ignore[arg-type]
        faults += combination_faults(settings, faulty=faulty)
        if faults:
            raise SettingsError(faults)
        return settings

    def to_config(self) -> dict[str, ConfigValue]:
        """Every key with its value: the exact inverse of `from_config`."""
        return {
            f"{group}.{key}": value
            for group, values in self.to_tables().items()
            for key, value in values.items()
        }

    def to_tables(self) -> dict[str, dict[str, ConfigValue]]:
        """The same as nested tables, ready for TOML."""
        return self.model_dump(by_alias=True)

    def with_config(self, changes: Mapping[str, ConfigValue]) -> "Settings":
        """A copy with some dotted keys changed, checked anew."""
        return Settings.from_config({**self.to_config(), **changes})


GROUPS: dict[str, type[Group]] = {
    name: field.annotation  # type: ignore[misc]
    for name, field in Settings.model_fields.items()
}
DEFAULTS: dict[str, ConfigValue] = {
    f"{group}.{kebab(name)}": field.default
    for group, model in GROUPS.items()
    for name, field in model.model_fields.items()
}
"""Every key that there is, with its default."""


def describe_keys() -> dict[str, str]:
    """A short line for every key, in the order of the groups."""
    return {
        f"{group}.{kebab(name)}": field.description or ""
        for group, model in GROUPS.items()
        for name, field in model.model_fields.items()
    }
