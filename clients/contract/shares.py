"""Who may be missing from sums under one-time keys, as the settings say it; too weak is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accounting.vocabulary import EXCHANGES
from crypto.errors import CapacityError
from crypto.planning import Absent, plan_sharing

if TYPE_CHECKING:
    from clients.contract.setting_tree import SettingTree


def in_shares(settings: SettingTree) -> bool:
    """Whether the keys of sums are in shares, so that hospitals may be missing."""
    sealed = settings.sealing.scheme == "one-time" and EXCHANGES[settings.exchange.name].sums
    return sealed and settings.privacy.dropouts > 0 and not settings.regime.pooled


def absent_of(settings: SettingTree) -> Absent:
    """Return who may be missing from a sum, and who works with the server."""
    privacy, silent = settings.privacy, settings.sealing.silent_holders
    return Absent(
        dropouts=0 if settings.regime.pooled else privacy.dropouts,
        colluders=privacy.colluders,
        committee=settings.sealing.holders,
        silent=None if silent < 0 else silent,
    )


def sharing_fault(settings: SettingTree) -> str | None:
    """Return why shares of keys would hold against too few, with the numbers that would do."""
    sealing = settings.sealing
    if not in_shares(settings):
        if sealing.committee or sealing.silent_holders >= 0:
            return (
                f"sealing.committee = {sealing.committee!r} and sealing.silent-holders = "
                f"{sealing.silent_holders} are for sealing.scheme one-time with privacy.dropouts "
                "above 0; leave them out."
            )
        return None
    invited = settings.partition.invited
    if strangers := sorted(set(sealing.holders) - set(invited)) if invited else []:
        return f"sealing.committee names {', '.join(strangers)}, who are not in partition.sites."
    try:
        plan_sharing(settings.partition.hospitals, absent_of(settings))
    except CapacityError as error:
        return f"sealing.scheme one-time with privacy.dropouts: {error}."
    return None
