"""What a real hospital's ground must be before it takes part: every fault is named at once.

Asked by `asclepias check`, by the SuperNode before it starts, and by every app process, so that no
way of starting one leaves it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.site.file_modes import open_files
from clients.site.ledger_place import ledger_faults

if TYPE_CHECKING:
    from clients.site.site_file import SiteFile


def site_faults(site: SiteFile) -> list[str]:
    """Return a sentence for everything that keeps a site from taking part, with what to do."""
    return [
        *pin_faults(site),
        *app_faults(site),
        *open_files(site),
        *ledger_faults(site.ledger),
        *device_faults(site),
    ]


def pin_faults(site: SiteFile) -> list[str]:
    """Say how to pin where nobody is pinned and first use is not trusted either."""
    if site.pins or site.trust_on_first_use:
        return []
    return [
        f"{site.path}: [pins] is empty, so whoever comes first could pass for any hospital; write "
        "name = \"SHA256:...\" for every hospital there, as its own 'asclepias keys' or "
        "'asclepias check' prints it, compared by telephone (trust-on-first-use = true takes the "
        "first keys seen instead)"
    ]


def app_faults(site: SiteFile) -> list[str]:
    """Say how to allow the app where no bundle may run."""
    if site.allowed_apps or site.any_app:
        return []
    return [
        f"{site.path}: allowed-apps is empty, so no bundle may run here; write the SHA-256 there "
        "that 'asclepias bundle' prints (any-app = true lets every bundle run that the SuperLink "
        "sends, whatever it does)"
    ]


def device_faults(site: SiteFile) -> list[str]:
    """Say what is wrong with a device that is asked for by name."""
    if site.device in ("auto", "cpu"):
        return []
    from clients.learning.device import NoSuchDevice, find_device

    try:
        find_device(site.device)
    except NoSuchDevice as error:
        return [f"{site.path}: [node] {error}"]
    return []
