"""The quickstart made private by each of its peers: what each changes of the plain app.

A variant is files of the plain quickstart with texts replaced; a line counts as changed as in a
diff. Each is written as its own documentation would have it, in as few lines as that allows.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = ROOT / "examples" / "quickstart-private"
SERVER, CLIENT = "quickstart/server_app.py", "quickstart/client_app.py"

#: Noise and clip of Flower's wrappers: an epsilon of about 8 for a *site* over 20 rounds of all
#: sites. What one digit changes of a site's update nobody bounds there.
NOISE, CLIP = 2.6, 1.0

_IMPORT = "from flwr.serverapp.strategy import FedAvg"
_STRATEGY = "    strategy = FedAvg(fraction_evaluate=0.0)\n"
_TRAINS = """from flwr.clientapp import ClientApp

from quickstart import task

app = ClientApp()
app.train()(task.train)
"""

Replaced = Mapping[str, tuple[tuple[str, str], ...]]

SEALED: Replaced = {
    SERVER: (
        (
            "from flwr.app import ArrayRecord",
            "from asclepias import SecureFedAvg\nfrom flwr.app import ArrayRecord",
        ),
        (f"{_IMPORT}\n", ""),
        (
            _STRATEGY,
            "    strategy = SecureFedAvg(patients=task.TRAINED, own_training=True)\n",
        ),
    ),
    CLIENT: (
        (
            "from flwr.clientapp import ClientApp",
            "from asclepias import hospital_mod\nfrom flwr.clientapp import ClientApp",
        ),
        ("app = ClientApp()", "app = ClientApp(mods=[hospital_mod])"),
    ),
    "pyproject.toml": (("dependencies = [\n", 'dependencies = [\n  "asclepias>=0.2,<0.3",\n'),),
}

_WRAPPED = f"""    accountant = RdpAccountant(
        PrivacyConfig(
            target_delta=7e-5,
            population_size=10,
            neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
            sampling_method=SamplingMethod.NO_AMPLIFICATION,
        )
    )
    strategy = DifferentialPrivacyServerSideFixedClipping(
        FedAvg(fraction_evaluate=0.0), {NOISE}, {CLIP}, 10, accountant=accountant
    )
"""
_ACCOUNTS = """from flwr.serverapp import (
    Grid,
    NeighboringRelation,
    PrivacyConfig,
    RdpAccountant,
    SamplingMethod,
    ServerApp,
)
"""
_CLIPS = "DifferentialPrivacyServerSideFixedClipping"

WRAPPER: Replaced = {
    SERVER: (
        ("from flwr.serverapp import Grid, ServerApp\n", _ACCOUNTS),
        (_IMPORT, f"from flwr.serverapp.strategy import {_CLIPS}, FedAvg"),
        (_STRATEGY, _WRAPPED),
    ),
}

_LEGACY = """from flwr.app import ArrayRecord, Context
from flwr.common import ndarrays_to_parameters
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import DifferentialPrivacyClientSideFixedClipping, FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
"""
_LEGACY_STRATEGY = f"""    names = list(task.Net().state_dict())

    def test(server_round, arrays, config):
        named = dict(zip(names, map(torch.from_numpy, arrays)))
        return 0.0, {{"accuracy": task.test(server_round, ArrayRecord(named))["accuracy"]}}

    first = [value.numpy() for value in task.Net().state_dict().values()]
    inner = FedAvg(
        fraction_evaluate=0.0,
        initial_parameters=ndarrays_to_parameters(first),
        evaluate_fn=test,
    )
    strategy = DifferentialPrivacyClientSideFixedClipping(inner, {NOISE}, {CLIP}, 10)
"""
_START = """    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(task.Net().state_dict()),
        num_rounds=int(context.run_config["num-server-rounds"]),
        evaluate_fn=task.test,
    )
    print("accuracy", list(result.evaluate_metrics_serverapp.values())[-1]["accuracy"])
"""
_LEGACY_START = """    rounds = int(context.run_config["num-server-rounds"])
    config = ServerConfig(num_rounds=rounds)
    legacy = LegacyContext(context=context, config=config, strategy=strategy)
    sealed = SecAggPlusWorkflow(num_shares=5, reconstruction_threshold=3)
    DefaultWorkflow(fit_workflow=sealed)(grid, legacy)
    print("accuracy", legacy.history.metrics_centralized["accuracy"][-1][1])
"""
_LEGACY_SITE = """import torch
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.client import ClientApp, NumPyClient
from flwr.client.mod import fixedclipping_mod, secaggplus_mod

from quickstart import task


class Site(NumPyClient):
    def __init__(self, context):
        self.site = context

    def fit(self, parameters, config):
        named = dict(zip(task.Net().state_dict(), map(torch.from_numpy, parameters)))
        asked = Message(RecordDict({"arrays": ArrayRecord(named)}), 1, "train")
        found = task.train(asked, self.site).content
        arrays = [one.numpy() for one in found["arrays"].values()]
        return arrays, found["metrics"]["num-examples"], {}


mods = [secaggplus_mod, fixedclipping_mod]
app = ClientApp(lambda context: Site(context).to_client(), mods=mods)
"""

SECAGG: Replaced = {
    SERVER: (
        ("from flwr.app import ArrayRecord, Context\n", _LEGACY),
        (f"{_IMPORT}\n", ""),
        (_STRATEGY, _LEGACY_STRATEGY),
        (_START, _LEGACY_START),
        ("\nfrom quickstart import task\n", "import torch\n\nfrom quickstart import task\n"),
    ),
    CLIENT: ((_TRAINS, _LEGACY_SITE),),
}


def write_app(folder: Path, replaced: Replaced | None) -> None:
    """Write a variant of the quickstart; None for the example's own private one."""
    source = QUICKSTART / ("private" if replaced is None else "plain")
    for file in source.rglob("*"):
        if file.suffix in (".py", ".toml"):
            place = folder / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            text = file.read_text(encoding="utf-8")
            for old, new in (replaced or {}).get(str(file.relative_to(source)), ()):
                if old not in text:
                    raise ValueError(f"{file} has no {old!r}")
                text = text.replace(old, new)
            place.write_text(text, encoding="utf-8")


def changed_lines(folder: Path) -> int:
    """Count the lines of a diff from the plain app, those taken out and those put in."""
    count = 0
    for file in sorted((QUICKSTART / "plain").rglob("*")):
        if file.suffix in (".py", ".toml"):
            other = folder / file.relative_to(QUICKSTART / "plain")
            texts = [one.read_text(encoding="utf-8").splitlines() for one in (file, other)]
            lines = list(difflib.unified_diff(*texts, n=0))[2:]
            count += sum(line.startswith(("+", "-")) for line in lines)
    return count
