"""Scenarios: a TOML file with a title and the settings that differ from the defaults.

The files lie in ``simulations/scenarios/``; any other path to a ``.toml`` file serves as well, the
``config.toml`` of an earlier run included. What a command line changes is laid on top, and the
whole is checked at once.

    >>> settings = resolve(find_scenario("default"), ["training.rounds=20", "privacy.regime=F"])
    >>> settings.training.rounds, settings.training.sampling_rate
    (20, 0.2)
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clients.contract.setting_faults import nearest
from clients.contract.settings import DEFAULTS, ConfigValue, Settings, SettingsError
from clients.contract.training_settings import LEARNED
from simulations.step_size import AUTO, planned_step_size

STEP_SIZE, SHARES = "training.learning-rate", "training.class-shares"
BALANCE, CLIP = "training.balance", "privacy.l2-clip"
#: Clip over data of one's own, whose columns are declared far wider than most values lie: with that
#: of the scenarios, steps are so short that little is learnt in their rounds (docs/data.md).
OWN_CLIP = 1.0
FOLDER = Path(__file__).with_name("scenarios")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A named set of settings.

    Attributes:
        name: what the command line calls it, and what run folders carry.
        title: a line for people.
        description: a paragraph for people.
        config: dotted keys and values that differ from the defaults; not checked yet.
        compare: its ``[compare]`` table: the axes of the comparison that it is made for.
    """

    name: str
    title: str
    description: str = ""
    config: Mapping[str, ConfigValue] = field(default_factory=dict)
    compare: Mapping[str, Any] = field(default_factory=dict)


def list_scenarios() -> list[Scenario]:
    """Return the scenarios that come with the app; `default` first, then by name."""
    found = [read_scenario(path) for path in FOLDER.glob("*.toml")]
    return sorted(found, key=lambda one: (one.name != "default", one.name))


def find_scenario(name: str) -> Scenario:
    """Return a scenario by its name, or by the path of its file.

    Raises:
        SettingsError: there is none; the known ones are listed.
    """
    if (inside := FOLDER / f"{name}.toml").is_file() and "/" not in name:
        return read_scenario(inside)
    if (path := Path(name)).suffix == ".toml":
        return read_scenario(path)
    known = [path.stem for path in sorted(FOLDER.glob("*.toml"))]
    close = nearest(name, known)
    hint = f"did you mean {close!r}? " if close else ""
    if name in ("attack", "attacks"):
        hint = "'flower-simulation attack all SCENARIO' compares attacks. "
    listed = f"Known: {', '.join(known)}, or a path to a .toml file."
    raise SettingsError([f"there is no scenario {name!r}; {hint}{listed}"])


def read_scenario(path: Path) -> Scenario:
    """Read a scenario's file.

    Raises:
        SettingsError: the file cannot be read, or is no TOML.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError([f"{path} cannot be read: {error.strerror}."]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path} is no TOML: {error}."]) from None
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-") or "scenario"
    title, description = table.pop("title", name), table.pop("description", "")
    compare = table.pop("compare", {})
    return Scenario(
        name=name,
        title=str(title),
        description=str(description).strip(),
        config=dict(_flatten(table)),
        compare=compare if isinstance(compare, dict) else {},
    )


def resolve(
    scenario: Scenario,
    assignments: Sequence[str] = (),
    overrides: Mapping[str, ConfigValue] | None = None,
) -> Settings:
    """Lay ``key=value`` texts, then overrides, on a scenario and check the whole.

    A ``training.learning-rate`` of ``auto`` becomes the number that public sizes give. Over data of
    one's own, of which nobody has said how common each class is, that is learnt with the model, and
    the clip is wider than those of the scenarios.

    Raises:
        SettingsError: with every fault of file, texts and combination.
    """
    changes, faults = read_assignments(assignments)
    config = {"run.scenario": scenario.name, **scenario.config, **changes, **(overrides or {})}
    if "data.public" not in changes and _is_own(changes.get("data.name")):
        # A scenario says it of its own data; one's own are not public unless one says so.
        config["data.public"] = False
    if _is_own(config.get("data.name")):
        config.update(_for_own_data(config, changes))
    by_rule = config.get(STEP_SIZE) == AUTO
    if by_rule:
        del config[STEP_SIZE]
    try:
        settings = Settings.from_config(config, known=_registered_names(config))
    except SettingsError as error:
        raise SettingsError([*faults, *error.faults]) from None
    if faults:
        raise SettingsError(faults)
    return settings.with_config({STEP_SIZE: planned_step_size(settings)}) if by_rule else settings


def check_model(settings: Settings) -> None:
    """Refuse a model that cannot be had, or not be cut as asked, before anything is started.

    Which layers there are is known from the model alone, so where it is to be cut it is built, and
    the data are read.

    Raises:
        SettingsError: the layer is none of those that it can be cut after, which are listed.
        ModelError: the file of its pretrained net is not there, or is another one.
    """
    from clients.models import backbone_of, build_model

    backbone_of(settings.model)
    if settings.exchange.name != "layers":
        return
    from clients.data import Cohorts
    from clients.learning.cuts import cut_model

    cut_model(settings, build_model(settings, Cohorts().of(settings).info, 0))


def read_assignments(texts: Sequence[str]) -> tuple[dict[str, ConfigValue], list[str]]:
    """Read ``key=value`` texts; a value that is no TOML value is taken as text.

    Returns:
        Values by key, and a sentence for every text that is no assignment.
    """
    values: dict[str, ConfigValue] = {}
    faults = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            faults.append(f"{text!r} is no setting; write key=value, as in training.rounds=20.")
            continue
        values[key.strip()] = _value(value.strip())
    return values, faults


def split_run_config(text: str) -> list[str]:
    """Split Flower's ``--run-config`` text, ``a=1 b.c='x y'``, into assignments.

    A path to a TOML file, which Flower takes as well, becomes its assignments.
    """
    if text.strip().endswith(".toml") and "=" not in text:
        table = read_scenario(Path(text.strip())).config
        return [f"{key}={_literal(value)}" for key, value in table.items()]
    quoted = r"""(?:"[^"]*"|'[^']*'|[^\s"']+)+"""
    return re.findall(quoted, text)


def _literal(value: ConfigValue) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _value(text: str) -> ConfigValue:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, bool | int | float | str) else text


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, ConfigValue]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_own(name: ConfigValue | None) -> bool:
    """Whether a data set that is named is of one's own files."""
    from clients.data.catalogue import is_own

    return name is not None and is_own(str(name))


def _for_own_data(
    config: Mapping[str, ConfigValue], changes: Mapping[str, ConfigValue]
) -> dict[str, ConfigValue]:
    """Return what is not said of data of one's own: how uneven classes are made up for, the clip.

    What a scenario says, it says of its own data.
    """
    said = changes if _is_own(changes.get("data.name")) else config
    exchange = config.get("exchange.name", DEFAULTS["exchange.name"])
    if exchange not in ("gradients", "weights"):
        return {}
    found: dict[str, ConfigValue] = {CLIP: OWN_CLIP, SHARES: LEARNED, BALANCE: "clip"}
    if not _of_classes(config):
        found = {CLIP: OWN_CLIP, SHARES: "", BALANCE: "loss"}
    if said.get(SHARES) == "":
        found.pop(BALANCE)
    return {key: value for key, value in found.items() if key not in said}


def _of_classes(config: Mapping[str, ConfigValue]) -> bool:
    """Whether records of one's own are each of one class, as far as a file beside them says."""
    from clients.data.catalogue import declared_kind
    from clients.tasks.question import OF_CLASSES

    kind = declared_kind(str(config["data.name"]), str(config.get("data.dir", "")))
    return kind in ("", *OF_CLASSES) and ":" not in str(config.get("task.name", ""))


def _registered_names(config: Mapping[str, ConfigValue]) -> dict[str, Collection[str]]:
    """Return the names that the rooms of data, partitions and models know.

    A name with a colon is a variant or a function of the user's own, judged where it is loaded.
    """
    from clients.data import DATASETS
    from clients.data.partition import PARTITIONS
    from clients.models import MODELS

    tables: dict[str, Collection[str]] = {
        "data.name": DATASETS,
        "partition.name": PARTITIONS,
        "model.name": MODELS,
    }
    return {key: names for key, names in tables.items() if ":" not in str(config.get(key, ""))}
