"""The terms of a training: public numbers that every hospital derives for itself and must agree on.

The server proposes a noise multiplier; all else follows from the settings and the public sizes of
the cohort. Hospitals compare parameter ids, so two that derived different terms never add up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from accounting.accountants import epsilon
from accounting.errors import AccountingError
from accounting.grid import GridPlan, plan_grid
from accounting.noise import NoisePlan, make_noise_plan
from accounting.vocabulary import EXCHANGES, SCHEMES
from clients.contract.groups import Groups, groups_of
from clients.contract.schedule import Schedule, permitted_events, schedule_of
from clients.contract.shares import absent_of
from crypto.planning import plan_sealing, plan_sharing
from crypto.plans import SealingPlan
from crypto.roles import Quantiser

if TYPE_CHECKING:
    from accounting.events import Event
    from clients.contract.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What all hospitals of one training have in common.

    Attributes:
        training: id of the training.
        hospitals: K, how many hospitals are expected.
        patients: N, training patients of the federation; public.
        sampling_rate: q.
        dimensions: d, trainable parameters.
        rounds: T.
        l2_clip: C, in gradient units.
        schedule: how often a patient's records are asked about.
        noise: how much noise a hospital adds to a sum, and what it costs.
        grid: quantisation and the slack it is charged with.
        sealing: public parameters of the sealing scheme, for one sum.
        groups: whose sums are opened apart; None where all are in one.
    """

    training: str
    hospitals: int
    patients: int
    sampling_rate: float
    dimensions: int
    rounds: int
    l2_clip: float
    schedule: Schedule
    noise: NoisePlan
    grid: GridPlan
    sealing: SealingPlan
    groups: Groups | None = None

    @property
    def least(self) -> int:
        """Hospitals without which nothing of a round is opened, K - d."""
        return self.hospitals - (self.noise.hospitals - self.noise.min_contributions)

    @property
    def denominator(self) -> float:
        """The public constant by which an opened sum becomes a mean: q*N, or N over the batches."""
        if self.schedule.batches:
            return self.patients / self.schedule.batches
        return self.sampling_rate * self.patients

    @property
    def noise_stddev(self) -> float:
        """Standard deviation of the noise that one hospital adds, in gradient units."""
        return self.noise.stddev_per_hospital(self.l2_clip)

    @property
    def held(self) -> int | None:
        """Hospitals that may work with the server before shared keys open single updates.

        None where keys are not shared.
        """
        sharing = self.sealing.sharing
        return sharing.most_colluders(self.sealing.hospitals) if sharing else None

    def event(self, count: int = 1) -> Event | None:
        """Return what noised sums cost a patient against whoever sees them opened."""
        return self.noise.event(self.schedule.sampling_rate, count)


def hospitals_expected(settings: Settings) -> int:
    """Return K: one curator where data are pooled, else the hospitals of the partition."""
    return 1 if settings.regime.pooled else settings.partition.hospitals


def hospitals_in_sum(settings: Settings) -> int:
    """Return how many hospitals' updates one opened sum holds: K, or those of a group."""
    groups = groups_of(settings)
    return groups.size if groups else hospitals_expected(settings)


def sharing_noise(settings: Settings) -> int:
    """Return how many hospitals' noise is planned together: those of a sum.

    Where each update is opened by itself nobody's noise is another's: it is planned as for all.
    """
    expected, summed = hospitals_expected(settings), hospitals_in_sum(settings)
    return summed if summed > 1 else expected


def noise_plan(settings: Settings, noise_multiplier: float) -> NoisePlan:
    """Return the noise plan of the settings' regime; a curator neither fails nor colludes."""
    pooled = settings.regime.pooled
    return make_noise_plan(
        settings.regime.noise,
        noise_multiplier=noise_multiplier,
        hospitals=sharing_noise(settings),
        dropouts=0 if pooled else settings.privacy.dropouts,
        colluders=0 if pooled else settings.privacy.colluders,
        removable=SCHEMES[settings.sealing.scheme].sums_alone,
    )


def agree_terms(
    settings: Settings,
    *,
    training: str,
    dimensions: int,
    patients: int,
    largest_hospital: int,
    noise_multiplier: float,
    message_values: int = 0,
) -> Terms:
    """Derive the terms of a training from public numbers only.

    Args:
        settings: the run's settings.
        training: id of the training.
        dimensions: d, trainable parameters of the model.
        patients: N, declared.
        largest_hospital: max N_k, declared.
        noise_multiplier: sigma, 0 where the regime adds no noise.
        message_values: noised values that a hospital sends in a round beside a sum.

    Raises:
        ValueError: if no grid, or no sealing parameters, meet the guarantee.
    """
    plan, schedule = noise_plan(settings, noise_multiplier), schedule_of(settings)
    grid = _grid(
        settings,
        plan,
        schedule,
        values=dimensions + message_values,
        largest_hospital=largest_hospital,
        noise_multiplier=noise_multiplier,
    )
    return Terms(
        training=training,
        hospitals=hospitals_expected(settings),
        patients=patients,
        sampling_rate=settings.training.sampling_rate,
        dimensions=dimensions,
        rounds=settings.training.rounds,
        l2_clip=settings.privacy.l2_clip,
        schedule=schedule,
        noise=plan,
        grid=grid,
        sealing=sealing_of(settings, dimensions, grid),
        groups=groups_of(settings),
    )


def _grid(
    settings: Settings,
    plan: NoisePlan,
    schedule: Schedule,
    *,
    values: int,
    largest_hospital: int,
    noise_multiplier: float,
) -> GridPlan:
    """Return the grid that values are rounded to; where noise has none, its setting is named."""
    share = 1.0 / schedule.batches if schedule.batches else settings.training.sampling_rate
    try:
        return plan_grid(
            dimensions=values,
            hospitals=plan.hospitals,
            plan=plan,
            l2_clip=settings.privacy.l2_clip,
            expected_patients=share * largest_hospital,
            rounds=permitted_events(settings),
            epsilon=_claimed_epsilon(settings, schedule, plan),
            delta=settings.privacy.delta,
        )
    except AccountingError as error:
        raise AccountingError(
            f"{_given_noise(settings, noise_multiplier)} leaves no grid that values could be "
            f"rounded to before they are sealed: {error}"
        ) from error


def _given_noise(settings: Settings, noise_multiplier: float) -> str:
    """Return the setting that the noise comes from, as people wrote it."""
    privacy = settings.privacy
    if privacy.target_epsilon:
        noise = f"noise of {noise_multiplier:.3g} clips"
        return f"privacy.target-epsilon = {privacy.target_epsilon:g} ({noise})"
    return f"privacy.noise-multiplier = {privacy.noise_multiplier:g}"


def _claimed_epsilon(settings: Settings, schedule: Schedule, plan: NoisePlan) -> float:
    """The target, or what the whole training costs where none is set, with all attempts."""
    target, delta = settings.privacy.target_epsilon, settings.privacy.delta
    whole = plan.event(schedule.sampling_rate, permitted_events(settings))
    return target if target or whole is None else epsilon([whole], delta, "rdp")


def sealing_of(
    settings: Settings, dimensions: int, grid: GridPlan, hospitals: int = 0
) -> SealingPlan:
    """Return how vectors of so many values on a grid are sealed.

    Args:
        settings: the run's.
        dimensions: values of a vector.
        grid: that they are on.
        hospitals: in a sum; 0: as many as in the run's.
    """
    sums = EXCHANGES[settings.exchange.name].sums
    steps = settings.exchange.local_steps if settings.exchange.name == "weights" else 1
    seeds = grid.parts.opened_up_to if grid.parts is not None else ()
    return plan_sealing(
        values=dimensions,
        hospitals=hospitals or hospitals_in_sum(settings),
        # An update adds up local steps, each within the grid's own bound.
        grid=Quantiser(step=grid.step, bound=grid.bound * steps),
        # Where no sum is sealed, the ceremony makes signing names and the group key only.
        scheme=settings.sealing.scheme if sums else "plain",
        key_mode=settings.sealing.key_mode,
        absent=replace(absent_of(settings), seeds=seeds),
    )


def held_hospitals(settings: Settings) -> int | None:
    """Return how many hospitals may work with the server before shared keys open single updates.

    None where keys are not shared: no hospital may be missing, or the scheme shares none.
    """
    if not SCHEMES[settings.sealing.scheme].sums_alone:
        return None
    if not EXCHANGES[settings.exchange.name].sums:
        return None
    hospitals = hospitals_in_sum(settings)
    sharing = plan_sharing(hospitals, absent_of(settings))
    return sharing.most_colluders(hospitals) if sharing else None


def sums_alone_for(settings: Settings) -> int:
    """Return how many hospitals may work with the server and learn sums alone, by the scheme."""
    if not SCHEMES[settings.sealing.scheme].sums_alone:
        return 0
    if not EXCHANGES[settings.exchange.name].sums:
        return 0
    held = held_hospitals(settings)
    return max(0, hospitals_in_sum(settings) - 2) if held is None else held
