"""What making Flower's quickstart private takes: ours, and its peers, in one table.

    python benchmarks/quickstart_peers.py [--rounds 20] [--sites 10] [--json docs/measured/quickstart_peers.json]

Each variant of the app (`quickstart_apps.py`) runs whole, with Flower's own strategies and mods, in a
process of its own that answers for server and sites without an engine between them. Reported are
lines of a diff from the plain app, bytes of a message's content a site and round, processor time of
all sites and the server together a round (from the first message to the last: the ceremony counts,
an audit after the end does not), accuracy on public digits, and the epsilon that the app itself says
at its end, with whom it is about.

NVFlare's HE seals what the plain app sends with NVFlare's own classes (where nvflare is installed);
its jobs are another framework's, so lines of the app cannot be compared.
"""  # noqa: E501

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", FLWR_TELEMETRY_ENABLED="0")

import quickstart_apps as apps  # noqa: E402
from flwr.app import Context, Message, RecordDict  # noqa: E402
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto  # noqa: E402
from flwr.serverapp import Grid  # noqa: E402
from flwr.supercore.run import Run  # noqa: E402
from flwr.supercore.task_identity import TaskIdentity  # noqa: E402

FILE = ROOT / "docs" / "measured" / "quickstart_peers.json"
#: name -> what is replaced in the plain app, who an epsilon is about, what the server sees.
VARIANTS: dict[str, tuple[Any, str, str]] = {
    "plain FedAvg": ({}, "", "every update"),
    "ours: private_client": (None, "a record", "noised sums"),
    "ours: hospital_mod": (apps.SEALED, "", "exact sums"),
    "Flower: DP wrapper": (apps.WRAPPER, "a site", "every update"),
    "Flower: DP wrapper and SecAgg+": (apps.SECAGG, "", "exact sums"),
}
RUN_ID = 5


class CountingGrid(Grid):
    """Answers each message at once by calling the ClientApp, and counts bytes both ways."""

    def __init__(self, client: Any, config: dict[str, Any], sites: int) -> None:
        self._client, self._replies = client, dict[str, Message]()
        self._contexts = {
            1000 + 7 * site: Context(
                run_id=RUN_ID,
                node_id=1000 + 7 * site,
                node_config={"partition-id": site, "num-partitions": sites},
                state=RecordDict(),
                run_config=config,
            )
            for site in range(sites)
        }
        self.up = self.down = 0
        self.first: float | None = None
        self.last = 0.0
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, 1, RUN_ID

    def set_run(self, run: Run) -> None:
        """Nothing: there is one run."""

    @property
    def run(self) -> Run:
        """The run."""
        return Run.create_empty(RUN_ID)

    def create_message(self, *args: object, **kwargs: object) -> Message:
        """Nobody asks for this any more."""
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        """The sites."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Answer."""
        ids = []
        for message in messages:
            if self.first is None:
                self.first = time.process_time()
            message.metadata.__dict__["_message_id"] = str(uuid4())
            # Both ends have a content of their own, as behind an engine: mods write into it.
            sent = recorddict_to_proto(message.content)
            self.down += sent.ByteSize()
            message.content = recorddict_from_proto(sent)
            reply = self._client(message, self._contexts[message.metadata.dst_node_id])
            if reply.has_error():
                raise RuntimeError(reply.error.reason)
            came = recorddict_to_proto(reply.content)
            self.up += came.ByteSize()
            reply.content = recorddict_from_proto(came)
            ids.append(message.metadata.message_id)
            self._replies[ids[-1]] = reply
            self.last = time.process_time()
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return answers."""
        return [self._replies.pop(one) for one in list(message_ids) if one in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Answer."""
        return self.pull_messages(self.push_messages(messages))


def measure_here(app: Path, rounds: int, sites: int) -> dict[str, Any]:
    """Run a variant in this process."""
    sys.path.insert(0, str(app))
    server = importlib.import_module("quickstart.server_app").app
    client = importlib.import_module("quickstart.client_app").app
    config = {"num-server-rounds": rounds, "batch-size": 32, "learning-rate": 0.2}
    grid, accounts = CountingGrid(client, config, sites), _accounts_kept()
    context = Context(
        run_id=RUN_ID, node_id=1, node_config={}, state=RecordDict(), run_config=config
    )
    with contextlib.redirect_stdout(io.StringIO()) as said:
        server(grid, context)
    whole = rounds * sites
    assert grid.first is not None
    return {
        "accuracy": float(said.getvalue().split("accuracy")[-1].split()[0]),
        "up": grid.up / whole,
        "down": grid.down / whole,
        "seconds": (grid.last - grid.first) / rounds,
        "epsilon": _epsilon(accounts),
    }


def _accounts_kept() -> list[Any]:
    """Return a list to which every account of Flower's adds itself."""
    from flwr.supercore.privacy_accounting.rdp_accountant import RdpAccountant

    kept, compose = [], RdpAccountant.compose

    def composed(self: Any, *words: Any, **named: Any) -> None:
        if self not in kept:
            kept.append(self)
        compose(self, *words, **named)

    RdpAccountant.compose = composed
    return kept


def _epsilon(accounts: list[Any]) -> float | None:
    """Return what the app's own account says."""
    if accounts:
        return float(accounts[-1].get_privacy_spent().epsilon)
    for file in Path().glob("runs/*/summary.json"):
        found = json.loads(file.read_text(encoding="utf-8")).get("epsilon") or {}
        return found.get("prv")
    return None


def measure(name: str, rounds: int, sites: int) -> dict[str, Any]:
    """Write a variant, and run it in a process of its own."""
    replaced, whom, sees = VARIANTS[name]
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "app"
        apps.write_app(app, replaced)
        words = ["--one", str(app), "--rounds", str(rounds), "--sites", str(sites)]
        done = subprocess.run(
            [sys.executable, __file__, *words], cwd=folder, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr[-3000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        return {"name": name, "lines": apps.changed_lines(app), "whom": whom, "sees": sees, **found}


def measure_nvflare(plain: dict[str, Any], sites: int) -> dict[str, Any] | None:
    """Seal with NVFlare's own classes what a site of the plain app sends."""
    if importlib.util.find_spec("nvflare") is None:
        print("nvflare is not installed: it is not measured")
        return None
    import numpy as np
    from sealing_contenders import NvflareClasses

    sys.path.insert(0, str(apps.QUICKSTART / "plain"))
    net = importlib.import_module("quickstart.task").Net()
    layers = [value.numel() for value in net.state_dict().values()]
    vectors = np.random.default_rng(0).normal(size=(sites, sum(layers)))
    peer = NvflareClasses(layers)
    started = time.process_time()
    sealed = [peer.seal(vector) for vector in vectors]
    total = peer.add(sealed)
    opened = [peer.open(total) for _ in range(sites)]
    seconds = time.process_time() - started
    assert np.abs(opened[0] - vectors.sum(axis=0)).max() < 1e-2
    return {
        **plain,
        "name": "NVFlare: HE",
        "lines": None,
        "accuracy": None,
        "sees": "nothing; all sites have one key",
        "up": len(sealed[0]),
        "down": len(total),
        "seconds": plain["seconds"] + seconds,
    }


def main() -> None:
    """Measure all variants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--sites", type=int, default=10)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--one", type=Path, default=None, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        print(json.dumps(measure_here(asked.one, asked.rounds, asked.sites)))
        return
    rows = []
    for name in VARIANTS:
        rows.append(measure(name, asked.rounds, asked.sites))
        print(rows[-1], flush=True)
    if (peer := measure_nvflare(rows[0], asked.sites)) is not None:
        rows.append(peer)
        print(peer)
    if asked.json is not None:
        command = f"python benchmarks/quickstart_peers.py --rounds {asked.rounds}"
        found = {"command": f"{command} --sites {asked.sites}", "load": os.getloadavg()[0]}
        asked.json.write_text(json.dumps({**found, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
