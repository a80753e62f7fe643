"""Real sites and the real app: a process of a hospital answers one message and is gone."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from accounting.chain import read_chain
from accounting.links import parse
from clients.client_app import make_client_app
from clients.contract.faults import FLOWER_ERROR_CODE
from clients.contract.messages import RoundReply
from clients.contract.settings import Settings
from clients.site.worker import Worker
from deployment.consortium import Consortium
from tests.deployment.real_sites import benchmark_consortium, rewrite, vouched
from tests.in_process import COHORTS


class Asking(Protocol):
    def content(self) -> RecordDict: ...


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back: a content, or a code."""

    code: str = ""
    content: RecordDict | None = None
    log: str = ""

    def __bool__(self) -> bool:
        return self.content is not None

    @property
    def records(self) -> RecordDict:
        assert self.content is not None, f"{self.code}: {self.log[-2000:]}"
        return self.content

    @property
    def round(self) -> RoundReply:
        return RoundReply.read(self.records)

    @property
    def payload(self) -> bytes:
        """Everything in it, to be compared."""
        from clients.contract.messages import content_to_bytes

        return content_to_bytes(self.records)

    def has_arrays(self) -> bool:
        return self.content is not None and any(
            len(record) for record in self.content.array_records.values()
        )


def _copied(folder: Path, hospitals: int, **changes: object) -> Consortium:
    """A consortium of its own for a test; keys and certificates are made once a session."""
    if (hospitals, str(changes)) not in _MADE:
        made = Path(tempfile.mkdtemp(prefix="consortium-")) / "c"
        atexit.register(shutil.rmtree, made.parent, ignore_errors=True)
        _MADE[hospitals, str(changes)] = benchmark_consortium(made, hospitals, **changes)
    first = _MADE[hospitals, str(changes)]
    shutil.copytree(first.folder, folder)
    return replace(first, folder=folder.absolute())


_MADE: dict[tuple[int, str], Consortium] = {}


class Sites:
    """A consortium's sites, and a process for each message, or one for all where it is kept."""

    def __init__(
        self, folder: Path, hospitals: int = 3, *, unwitnessed: int = 1000, **changes: object
    ) -> None:
        self.consortium = vouched(_copied(folder, hospitals, **changes))
        self.names = self.consortium.hospitals
        # A server that a test plays asks no peers to vouch, unless the test is about it.
        for name in self.names:
            self.rewrite(name, "unwitnessed = 4", f"unwitnessed = {unwitnessed}")
        self.kept: dict[str, Worker] = {}
        self.states: list[RecordDict] = []

    def folder(self, name: str) -> Path:
        return self.consortium.site(name) / "private"

    def rewrite(self, name: str, old: str, new: str) -> None:
        rewrite(self.consortium, name, old, new)

    def keep(self, name: str) -> None:
        """Let one process answer from now on."""
        self.kept.setdefault(name, Worker(COHORTS))

    def restart(self, name: str) -> None:
        """End that process."""
        if (worker := self.kept.pop(name, None)) is not None:
            worker.close()

    def close(self) -> None:
        for name in list(self.kept):
            self.restart(name)

    def ask(self, name: str, kind: str, request: Asking | RecordDict, settings: Settings) -> Answer:
        """Send one message to a hospital's real app."""
        content = request if isinstance(request, RecordDict) else request.content()
        state = RecordDict()
        context = Context(
            run_id=5,
            node_id=1,
            node_config={"site": str(self.consortium.site(name) / "site.toml")},
            state=state,
            run_config=settings.to_config(),
        )
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 5, 1, 5
        message = Message(content, dst_node_id=1, message_type=str(kind))
        if name in self.kept:
            reply = make_client_app(self.kept[name])(message, context)
        else:
            with closing(Worker(COHORTS)) as worker:
                reply = make_client_app(worker)(message, context)
        self.states.append(state)
        if reply.has_error():
            assert reply.error.code == FLOWER_ERROR_CODE
            return Answer(code=reply.error.reason, log=self.log(name))
        return Answer(content=reply.content)

    def lines(self, name: str) -> list[Mapping[str, Any]]:
        """The lines of a hospital's book; none where it is gone, or was torn in its first line."""
        path = self.folder(name) / "ledger.jsonl"
        if not path.is_file() or not any(map(parse, path.read_bytes().split(b"\n")[:-1])):
            return []
        return list(read_chain(path).records)

    def kinds(self, name: str) -> list[str]:
        return [str(line["kind"]) for line in self.lines(name)]

    def book_bytes(self, name: str) -> bytes:
        return (self.folder(name) / "ledger.jsonl").read_bytes()

    def log(self, name: str) -> str:
        """The end of a hospital's own log; all of it would be read again after every message."""
        path = self.folder(name) / "hospital.log"
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 2**16))
            return file.read().decode(errors="replace")
