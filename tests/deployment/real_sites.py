"""Real sites in one process: every message meets a process that remembers nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, tzinfo
from pathlib import Path

from flwr.app import Context, Message, RecordDict

from accounting import lines
from accounting.book import Book
from clients.client_app import make_client_app
from clients.contract.settings import Settings
from clients.site.home import home_of
from clients.site.site_file import read_site_file
from clients.site.worker import Worker
from deployment import authority
from deployment.consortium import Consortium, make_consortium
from tests.in_process import COHORTS, InProcessGrid, Meddle, server_app


class SiteGrid(InProcessGrid):
    """Hands each message to the ClientApp as a SuperNode does: a fresh process, a site.toml."""

    def __init__(
        self, settings: Settings, consortium: Consortium, meddle: Meddle | None = None
    ) -> None:
        names = consortium.hospitals
        super().__init__(settings.to_config(), len(names), meddle)
        self.sites = dict(
            zip(self._ids, (consortium.site(n) / "site.toml" for n in names), strict=True)
        )

    def _answer(self, message: Message) -> Message | None:
        if self._meddle is not None:
            early = self._meddle(message, None)
            if early is not message:
                return early
        reply = answer(message, self.sites[message.metadata.dst_node_id], self._config)
        return reply if self._meddle is None else self._meddle(message, reply)


def answer(message: Message, site: Path, config: dict) -> Message:
    """Answer one message in what stands for a new process."""
    context = Context(
        run_id=5,
        node_id=message.metadata.dst_node_id,
        node_config={"site": str(site)},
        state=RecordDict(),
        run_config=config,
    )
    with closing(Worker(COHORTS)) as worker:
        return make_client_app(worker)(message, context)


def benchmark_consortium(folder: Path, count: int, **changes: object) -> Consortium:
    """Sites whose records are parts of the bundled public benchmark, in test mode."""
    options: dict = {
        "address": "127.0.0.1:9092",
        "hospitals": [f"hospital-{k:02d}" for k in range(count)],
        "data": {"name": "breast-cancer", "public": True},
        "partitions": True,
        "test_mode": True,
        "allowed_apps": ["0" * 64],
    }
    return make_consortium(folder, **{**options, **changes})


def vouched(consortium: Consortium) -> Consortium:
    """Have every hospital's new ledger be at home, as when all peers have vouched for it."""
    for name in consortium.hospitals:
        site = read_site_file(consortium.site(name) / "site.toml")
        with Book(site.ledger, site=name, cohort=site.data_name) as book:
            book.append(lines.moved(inode=home_of(site.ledger)))
    return consortium


def train(settings: Settings, grid: InProcessGrid) -> None:
    """Lead a training over a grid to its end."""
    Path(settings.run.out).mkdir(parents=True, exist_ok=True)
    config = settings.to_config()
    context = Context(run_id=5, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    server_app(grid, context)


def rewrite(consortium: Consortium, hospital: str, old: str, new: str) -> None:
    """Change one text in a hospital's site.toml."""
    file = consortium.site(hospital) / "site.toml"
    text = file.read_text()
    assert old in text, (old, text)
    file.write_text(text.replace(old, new))


def without_pins(consortium: Consortium, hospital: str) -> None:
    """Take every pin out of a hospital's site.toml."""
    file = consortium.site(hospital) / "site.toml"
    file.write_text(file.read_text().partition("[pins]")[0])


@contextmanager
def at(moment: datetime) -> Iterator[None]:
    """Make certificates as if it were another moment."""

    class Then(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return moment

    before = authority.datetime
    authority.datetime = Then
    try:
        yield
    finally:
        authority.datetime = before
