"""A training's terms as a hospital derives them for itself, to compare with what is asked.

They follow from the run's settings *before* the site's own take their place: no hospital knows
another's file, and all must come to the same digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clients.contract.binding import BoundTerms, own_digest, own_text, terms_digest
from clients.contract.schedule import failures_allowed, spare_attempts
from clients.data.public_facts import public_facts
from clients.learning.device import describe
from clients.learning.shapes import shared_parameters, weights_digest
from clients.site.session import Session, make_session

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from clients.data import Cohort
    from clients.site.ground import Site


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The terms of a training, as this process derived them.

    Attributes:
        settings: the run's.
        noise_multiplier: sigma, as it was proposed.
        session: made of them.
        text: the canonical text of the terms.
        digest: of the text, hex.
    """

    settings: Settings
    noise_multiplier: float
    session: Session
    text: str
    digest: str

    def fits(self, settings: Settings, noise_multiplier: float) -> bool:
        """Whether it was derived from these."""
        return self.noise_multiplier == noise_multiplier and self.settings == settings


def agree(
    settings: Settings,
    cohort: Cohort,
    training: str,
    noise_multiplier: float,
    site: Site | None = None,
) -> Agreement:
    """Derive the terms of a training.

    Args:
        settings: the run's, as the server sent them.
        cohort: what is public about the records comes from it.
        training: the id.
        noise_multiplier: sigma, 0 where the regime adds no noise.
        site: on whose machine gradients are computed; its log says which device that is. None: as
            the run's settings say.

    Raises:
        NoSuchDevice: the device is not there.
        ValueError: no grid, or no sealing parameters, meet the guarantee.
    """
    session = make_session(
        settings, cohort, training, noise_multiplier, None if site is None else site.machine
    )
    if site is not None:
        site.log(f"{training}: gradients are computed on {describe(session.replica.device)}")
    largest = settings.data.largest_hospital or max(cohort.patients_by_hospital.values())
    bound = BoundTerms.of(
        settings,
        session.terms,
        noise_multiplier=noise_multiplier,
        largest_hospital=largest,
        facts=public_facts(cohort.info),
        parameters=shared_parameters(settings, session.replica.module, len(cohort.info.classes)),
        spare_attempts=spare_attempts(settings),
        failed_openings=failures_allowed(settings),
        weights=weights_digest(settings.model),
    )
    text = bound.text()
    return Agreement(
        settings=settings,
        noise_multiplier=noise_multiplier,
        session=session,
        text=text,
        digest=terms_digest(text).hex(),
    )


def own_part(site: Site, settings: Settings, cohort: str, ledger: str) -> str:
    """Return the digest of what this hospital says for itself, hex."""
    text = own_text(
        settings,
        cohort=cohort,
        patients=site.patients,
        partition=site.partition,
        ledger=bytes.fromhex(ledger),
        test_mode=site.test_mode,
    )
    return own_digest(text).hex()
