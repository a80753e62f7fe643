"""Which processes a Ray of a run's own has: those that carry messages and those of hospitals.

`ray.init` starts more: a dashboard's address, a monitor of logs that would carry them to this
process, a monitor that adds machines, for which Ray's end waits a second, and two agents, of a
dashboard and of environments that are installed for a call. A run asks nothing of them. The agents
alone take a second of two processors, and Ray waits until they have said their ports.

`ray.init` has no word for it, so what it calls is replaced while it starts; of a Ray that has other
names for them, all are started.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from simulations.engines.forks import with_forks

#: What stands where the raylet wants an agent: it ends itself when one of them ends.
_STAND_IN = Path(__file__).with_name("ray_agent.py")
_AGENTS = ("dashboard_agent_command", "runtime_env_agent_command")
#: Where the raylet looks for an agent's port, and what an agent that has none says there.
_PORTS = (
    "dashboard_agent_listen_port",
    "metrics_agent_port",
    "metrics_export_port",
    "runtime_env_agent_port",
)
_NO_PORT = "-1"


@contextmanager
def only_what_a_run_needs() -> Iterator[None]:
    """Have `ray.init` start no other processes in the block.

    What is started has process groups of its own: whoever ends this one's group, as `timeout` does
    and schedulers do, would end Ray below a run that still writes down how far it has come. (On
    Linux, where the kernel ends Ray with this process; elsewhere it is ended by the group.)
    """
    from ray._private import services
    from ray._private.node import Node

    def no_dashboard(self: Any, **_: Any) -> None:
        self._webui_url = None

    with ExitStack() as stack:
        for name, instead in (
            ("start_api_server", no_dashboard),
            ("start_log_monitor", lambda self: None),
            ("start_monitor", lambda self: None),
        ):
            if (before := getattr(Node, name, None)) is not None:
                stack.callback(setattr, Node, name, before)
                setattr(Node, name, instead)
        start = getattr(services, "ConsolePopen", None)
        if start is not None:
            group = {"process_group": 0} if sys.platform == "linux" else {}
            stack.callback(setattr, services, "ConsolePopen", start)
            services.ConsolePopen = partial(_started, partial(start, **group))
        yield


def _started(start: Any, command: Sequence[str], *arguments: Any, **named: Any) -> Any:
    return start(with_forks(without_agents(command)), *arguments, **named)


def without_agents(command: Sequence[str]) -> list[str]:
    """Return a raylet's command that has it start nothing that takes time in its agents' place.

    Says their ports, which it waits for, in the session's folder.

    Args:
        command: of one of Ray's processes; one that is no raylet, or whose arguments have other
            names, is returned as it is.
    """
    given = dict(part[2:].split("=", 1) for part in command if part[:2] == "--" and "=" in part)
    needed = {"session_dir", "node_id", *_AGENTS}
    if Path(command[0]).name != "raylet" or not needed <= given.keys():
        return list(command)
    for name in _PORTS:
        path = Path(given["session_dir"], f"{name}_{given['node_id']}")
        path.write_text(_NO_PORT, encoding="ascii")
    instead = subprocess.list2cmdline([sys.executable, "-I", "-S", os.fspath(_STAND_IN)])
    agents = {f"--{name}={given[name]}": f"--{name}={instead}" for name in _AGENTS}
    return [agents.get(part, part) for part in command]
