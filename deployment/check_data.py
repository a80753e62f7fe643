"""What the operator sees of the hospital's own records: counts, and what could not be read.

Nothing here leaves the hospital's machine. A run never tells the server whether records fit what is
declared, since that would tell of a patient; the operator finds out here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clients.site.data_stamp import remove_stamp, write_stamp
from clients.site.ground import private_folder
from clients.site.site_file import read_site_file
from deployment.checks import Finding
from deployment.errors import DeploymentError, DeploymentFailed

if TYPE_CHECKING:
    from clients.data import DatasetInfo, Records

#: Picture sizes do not matter here; small ones are read as well as large ones.
_IMAGE_SIZE = 64
#: Records whose targets are looked at together.
_ROWS = 256


def check_data(folder: Path) -> Iterator[Finding]:
    """Read a hospital's records, say what is in them, and stamp them if they fit what it declares.

    Args:
        folder: the hospital's, with its ``site.toml``.

    Raises:
        DeploymentError: the site stands for a part of a benchmark.
        DeploymentFailed: it has more patients than it declares.
        DataError: the records cannot be read as a whole.
        SiteFileError: the ``site.toml`` is not sound.
    """
    from clients.contract.stages import listening
    from clients.data import load_dataset
    from clients.data.records import readable
    from simulations.stage_bar import stage_bar

    site = read_site_file(folder / "site.toml")
    if site.simulated_partition is not None:
        raise DeploymentError(f"{site.path}: a part of a public benchmark needs no check.")
    dataset = load_dataset(
        site.data_name, site.data_dir, image_size=_IMAGE_SIZE, declared=not site.data_public
    )
    with stage_bar() as listener, listening(listener):
        records = readable(dataset.train)
    yield Finding(good=True, text=_counts(records, dataset.info))
    yield from (Finding(good=None, text=line) for line in dataset.log.lines())
    private = private_folder(site.private)
    if not site.bound:
        remove_stamp(private)
        yield Finding(
            good=None,
            text=f"not stamped: {site.path} declares no [data] most-patients, a number that this "
            "hospital's patients do not exceed, and that becomes public. Runs of shared layers "
            "(exchange.name = layers) ask for it, others do not",
        )
        return
    found = len(dataset.train.patient_ids)
    if found > site.bound:
        remove_stamp(private)
        raise DeploymentFailed(
            f"{found} patients, but {site.path} declares at most {site.bound}; declare more in "
            "[data] most-patients."
        )
    write_stamp(private, data=site.data_name, bound=site.bound, day=datetime.now(UTC).date())
    yield Finding(
        good=True,
        text=f"no more than the {site.bound} patients declared: stamped, for runs whose "
        f"data.largest-hospital is {site.bound} or more",
    )


def _counts(records: Records, info: DatasetInfo) -> str:
    counts = Counter[str]()
    for start in range(0, max(1, len(records)), _ROWS):
        block = np.asarray(records.labels[start : start + _ROWS])
        counts.update(info.question.counted(block))
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    whom = f"of {len(records.patient_ids)} patients"
    if info.unit == "record":
        whom += " (none is named: each record counts as one)"
    return f"{len(records)} records {whom}: {each}"
