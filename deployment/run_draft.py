"""The draft of a consortium's first run, and what its sealing holds against: `run.toml`.

What only people know is left to be filled in, and marked. The rest is checked when it is written:
keys in shares that hold against too few are refused with the numbers that would do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from clients.contract.settings import Settings, SettingsError
from clients.contract.terms import sums_alone_for
from deployment.errors import DeploymentError

#: The file's name in the folder of the SuperLink.
RUN = "run.toml"

_TEXT = """\
# A run of this consortium. Fill in what is marked with <, then, on the SuperLink's machine:
#     asclepias submit superlink/run.toml --superlink superlink
title = "A run of {hospitals} hospitals"

[data]
name = {data}
# < Folder, at the SuperLink, of public records of the same form, on which models are measured.
dir = ""
# < The share of its patients that is used for that.
holdout = 0.9
# < About how many patients train, all hospitals together, and the most of one hospital; public.
patients = 0
largest-hospital = 0

[partition]
hospitals = {hospitals}
sites = {sites}

[privacy]
target-epsilon = 1.0
# Hospitals that may be missing in a round; with 0 a round waits for all.
dropouts = {dropouts}

[sealing]
# Under bfv the server with any one hospital sees single updates. Under one-time it sees sums, with
# up to {held} of them: [limits] min-colluders in each site.toml.
scheme = {scheme}
"""


def draft_run(hospitals: Sequence[str], data: str, scheme: str, *, dropouts: int, held: int) -> str:
    """Return the text of a run over these hospitals.

    Args:
        hospitals: their names.
        data: ``data.name`` of the run.
        scheme: of sealing.
        dropouts: hospitals that may be missing in a round.
        held: hospitals that may work with the server, as `held_against` says.
    """
    return _TEXT.format(
        data=json.dumps(data),
        hospitals=len(hospitals),
        sites=json.dumps(",".join(sorted(hospitals))),
        dropouts=dropouts,
        held=held,
        scheme=json.dumps(scheme),
    )


def held_against(hospitals: int, *, scheme: str, dropouts: int) -> int:
    """Return how many hospitals may work with the server and learn sums alone.

    Raises:
        DeploymentError: against too few, with the numbers that would do; or no such scheme.
    """
    try:
        settings = Settings.from_config(
            {
                "partition.hospitals": hospitals,
                "privacy.dropouts": dropouts,
                "sealing.scheme": scheme,
            }
        )
    except SettingsError as error:
        raise DeploymentError(str(error)) from None
    return sums_alone_for(settings)
