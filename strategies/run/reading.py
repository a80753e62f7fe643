"""Reading a run folder: finished, stopped or still being written.

`read_run` gives everything that the folder holds; what is not there yet is empty.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clients.contract.settings import Settings, SettingsError
from strategies.run.events import METRICS, RunProgress, fold, read_events


class NoRun(Exception):
    """A path that is no run folder; the message says what was looked for."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run folder holds; files that are absent are empty here.

    Attributes:
        path: the folder.
        config: every setting by dotted key, as the run was told.
        events: the lines of ``metrics.jsonl``.
        summary: ``summary.json``.
        privacy: ``privacy.json``: observers, ledger, whether seeded.
        evaluation: ``evaluation.json``: classes, confusion, calibration on the public holdout.
        doubt: ``doubt.json``: temperature, calibration and rejection of what predicts.
        split: ``split.json``: labels per hospital, only where the data are public.
        provenance: ``provenance.json``: command and versions, written by the command line.
        attacks: ``attacks.json``: what attacks on it found, by the name of each.
    """

    path: Path
    config: dict[str, Any]
    events: list[dict[str, Any]]
    summary: dict[str, Any]
    privacy: dict[str, Any]
    evaluation: dict[str, Any]
    split: dict[str, Any]
    provenance: dict[str, Any]
    doubt: dict[str, Any] = field(default_factory=dict)
    attacks: dict[str, Any] = field(default_factory=dict)

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one kind, in order."""
        return [event for event in self.events if event.get("kind") == kind]

    @property
    def progress(self) -> RunProgress:
        """Where the run is, or how it ended."""
        return fold(self.events)

    @property
    def settings(self) -> Settings:
        """The run's settings, checked again."""
        return Settings.from_config(self.config)


def find_run(name: str, parent: Path = Path("runs")) -> Path:
    """Return a run folder by its path, by its name in `parent`, or the newest for ``latest``.

    A folder that holds run folders, as a SuperLink's or a whole consortium's does in a deployment,
    stands for the newest of them.

    Raises:
        NoRun: nothing of that name is a run folder.
    """
    if name == "latest":
        if (found := _newest(parent)) is None:
            raise NoRun(f"There is no run in {parent.absolute()} yet; start one with 'run'.")
        return found
    for path in (Path(name), parent / name):
        if any((path / file).is_file() for file in ("config.toml", METRICS)):
            return path
    # What is called runs/ comes first: Flower keeps a config.toml of its own beside it.
    for runs in (Path(name) / "superlink" / "runs", Path(name) / "runs", Path(name)):
        if (found := _newest(runs)) is not None:
            return found
    raise NoRun(
        f"{name} is no run folder: neither {Path(name).absolute()} nor {parent / name} holds a "
        f"config.toml or {METRICS}. 'latest' names the newest run in {parent.absolute()}."
    )


def _newest(parent: Path) -> Path | None:
    """Return the run folder in `parent` that was begun last."""
    found = [path for path in parent.glob("*/config.toml") if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None


def read_run(path: Path) -> RunResult:
    """Read a run folder as it is now.

    Raises:
        NoRun: a file is there and cannot be read as what it should be.
    """
    return RunResult(
        path=path,
        config=_read_config(path / "config.toml"),
        events=list(read_events(path)),
        summary=_read_json(path / "summary.json"),
        privacy=_read_json(path / "privacy.json"),
        evaluation=_read_json(path / "evaluation.json"),
        split=_read_json(path / "split.json"),
        doubt=_read_json(path / "doubt.json"),
        provenance=_read_json(path / "provenance.json"),
        attacks=_read_json(path / "attacks.json"),
    )


def read_settings(path: Path) -> Settings:
    """Return the settings that a run was told.

    Raises:
        NoRun: the folder holds no settings, or such as this version does not accept.
    """
    config = _read_config(path / "config.toml")
    if not config:
        raise NoRun(f"{path} holds no config.toml; it cannot be resumed.")
    try:
        return Settings.from_config(config)
    except SettingsError as error:
        raise NoRun(f"{path / 'config.toml'} does not fit this version: {error}") from None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise NoRun(f"{path} is no JSON: {error}.") from None
    return content if isinstance(content, dict) else {"rows": content}


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NoRun(f"{path} is no TOML: {error}.") from None
    return {
        f"{group}.{key}": value
        for group, table in tables.items()
        if isinstance(table, dict)
        for key, value in table.items()
    }
