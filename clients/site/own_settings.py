"""What a hospital's own file says in the place of a run's settings, and whom the run invites."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from clients.contract.faults import Code, Fault
from clients.data.cohort import NONE
from clients.site.books import Books
from clients.site.ground import real_site
from crypto.offers import Offer

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from clients.site.site_file import SiteFile


def own_settings(file: SiteFile, settings: Settings, *, invited: bool = True) -> Settings:
    """Replace what a run says about data by what the hospital says.

    Args:
        file: the hospital's own.
        settings: the run's.
        invited: whether it must be among those that the run invites.

    Raises:
        Fault: the hospital is not on the run's list; or the run is seeded, which gives no privacy,
            and the hospital is not in test mode; or the model is a function that the hospital's
            file does not allow.
    """
    if invited:
        require_invited(settings, [file.hospital])
    if settings.seeded and not file.test_mode:
        raise Fault(Code.SEED_REFUSED, f"run.seed = {settings.run.seed}, expected -1")
    _require_allowed(file, settings)
    return settings.with_config(
        {
            "data.name": file.data_name,
            "data.dir": file.data_dir,
            "data.public": file.data_public,
            # What a run is judged on is for its server to read: here its name would be imported.
            "data.holdout-from": NONE if settings.data.holdout_from else "",
        }
    )


def _require_allowed(file: SiteFile, settings: Settings) -> None:
    """Insist that a model or task that would be imported by its name is on the hospital's list.

    The run's word for the data is never imported here: the file's takes its place.
    """
    from clients.models.catalogue import imports
    from clients.tasks.catalogue import imported

    named = {"model.name": imports(settings.model.name), "task.name": imported(settings.task.name)}
    for key, found in named.items():
        if not found or found in file.allowed_functions:
            continue
        allowed = ", ".join(sorted(file.allowed_functions)) or "none"
        fault = (
            f"{key} = {found!r} would be imported and run here, but [allow] functions of "
            f"{file.path.name} holds {allowed}"
        )
        real_site(file, Books()).log(f"refused: {Code.SETTINGS_REFUSED}: {fault}")
        raise Fault(Code.SETTINGS_REFUSED, fault)


def require_invited(settings: Settings, hospitals: Iterable[str]) -> None:
    """Insist that hospitals are on the run's list, where it has one.

    Raises:
        Fault: one is not.
    """
    invited = settings.partition.invited
    others = sorted(set(hospitals) - set(invited))
    if invited and others:
        raise Fault(Code.NOT_INVITED, f"{', '.join(others)}: not in partition.sites, {invited}")


def invited_offers(settings: Settings, offers: Iterable[bytes]) -> list[Offer]:
    """Read the offers that the server relays.

    Raises:
        Fault: one is from a hospital that is not on the run's list.
        SealingError: one is no offer.
    """
    read = [Offer.from_bytes(data) for data in offers]
    require_invited(settings, (offer.name for offer in read))
    return read
