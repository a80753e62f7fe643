"""What a run leaves behind, written so that an interrupted run can be read and resumed.

Lines of ``metrics.jsonl`` are flushed one by one; other files are replaced whole. Everything that a
person or a program wants to know later is derived from these files.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.contract.plain_json import json_text
from crypto.whole_file import locked, write_shared

if TYPE_CHECKING:
    import torch

    from clients.contract.settings import Settings

_MOST_A_SECOND = 1_000


def new_folder(parent: Path, scenario: str) -> Path:
    """Make ``<parent>/<time>-<scenario>``, with a number where another run begins that second."""
    parent.mkdir(parents=True, exist_ok=True)
    name = f"{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}-{scenario}"
    for attempt in range(1, _MOST_A_SECOND):
        path = parent / (name if attempt == 1 else f"{name}-{attempt}")
        with suppress(FileExistsError):
            path.mkdir()
            return path
    raise FileExistsError(f"{_MOST_A_SECOND} runs have begun in {parent} within a second")


class RunInUse(Exception):
    """Another command has a run's folder; nothing was changed in it."""


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._metrics = path / "metrics.jsonl"

    @classmethod
    def open(cls, settings: Settings) -> RunFolder:
        """Open ``run.out``, or make a new ``runs/<time>-<scenario>`` where it is not set."""
        if settings.run.out:
            path = Path(settings.run.out)
            path.mkdir(parents=True, exist_ok=True)
        else:
            path = new_folder(Path("runs").absolute(), settings.run.scenario)
        folder = cls(path)
        if not (path / "config.toml").exists():
            folder.write_config(settings)
        return folder

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the folder to one command at a time, for as long as its process lives.

        Raises:
            RunInUse: another command has it.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path / ".lock", wait=False))
            except BlockingIOError:
                raise RunInUse(
                    f"Another command is running {self.path}; nothing was changed. "
                    f"'flower-simulation watch {self.path}' follows it."
                ) from None
            yield

    def write_config(self, settings: Settings) -> None:
        """Write every setting, resolved."""
        import tomli_w

        tables: dict[str, dict[str, Any]] = {}
        for key, value in settings.to_config().items():
            group, _, name = key.partition(".")
            tables.setdefault(group, {})[name] = value
        self.write_text("config.toml", tomli_w.dumps(tables))

    def log_exception(self, error: BaseException) -> None:
        """Append an exception with its traceback to ``run.log``, which stays on this machine."""
        with (self.path / "run.log").open("a", encoding="utf-8") as file:
            file.write("".join(traceback.format_exception(error)))

    def record(self, kind: str, **fields: Any) -> None:
        """Append one line to ``metrics.jsonl``, flushed."""
        line = json_text({"kind": kind, "time": round(time.time(), 3), **fields})
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file whole or not at all."""
        self.write_text(name, json_text(content, indent=2) + "\n")

    def write_text(self, name: str, content: str) -> None:
        """Write a text file whole or not at all."""
        self.write_bytes(name, content.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all."""
        write_shared(self.path / name, content)

    def write_model(self, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
        """Write the released model as safetensors."""
        from safetensors.torch import save

        self.write_bytes(
            "model.safetensors",
            save({k: v.contiguous() for k, v in tensors.items()}, metadata=dict(metadata)),
        )
