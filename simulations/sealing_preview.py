"""How the vectors of a run would be packed and sealed, from public numbers alone."""

from __future__ import annotations

from dataclasses import dataclass

from accounting.accountants import epsilon
from accounting.grid import plan_grid
from accounting.noise import make_noise_plan
from accounting.vocabulary import REGIMES, SCHEMES
from crypto.planning import Absent, plan_sealing
from crypto.plans import SealingPlan
from crypto.roles import Quantiser


@dataclass(frozen=True, kw_only=True)
class SealingPreview:
    """The public numbers that decide how a vector is sealed.

    Attributes:
        parameters: values in a vector, d.
        hospitals: K; `dropouts` and `colluders` of them are tolerated.
        scheme: of sealing; with `key_mode`.
        regime: of privacy.
        noise_multiplier: sigma.
        sampling_rate: q.
        patients: of the largest hospital.
        rounds: T.
        delta: of the guarantee.
        l2_clip: C.
        bits: per value where there is no noise.
    """

    parameters: int
    hospitals: int
    dropouts: int
    colluders: int
    scheme: str
    key_mode: str
    regime: str
    noise_multiplier: float
    sampling_rate: float
    patients: int
    rounds: int
    delta: float
    l2_clip: float
    bits: int

    def plan(self) -> SealingPlan:
        """Return how such a run would seal.

        Raises:
            AccountingError: the noise cannot be planned so.
            SealingError: the scheme cannot hold the sums.
        """
        scheme = SCHEMES.get(self.scheme)  # one that nobody knows is refused below
        noise = make_noise_plan(
            REGIMES[self.regime].noise,
            noise_multiplier=self.noise_multiplier,
            hospitals=self.hospitals,
            dropouts=self.dropouts,
            colluders=self.colluders,
            removable=scheme is not None and scheme.sums_alone,
        )
        event = noise.event(self.sampling_rate, self.rounds)
        grid = plan_grid(
            dimensions=self.parameters,
            hospitals=self.hospitals,
            plan=noise,
            l2_clip=self.l2_clip,
            expected_patients=self.sampling_rate * self.patients,
            rounds=self.rounds,
            epsilon=0.0 if event is None else epsilon([event], self.delta, "rdp"),
            delta=self.delta,
            bits=self.bits,
        )
        return plan_sealing(
            values=self.parameters,
            hospitals=self.hospitals,
            grid=Quantiser(step=grid.step, bound=grid.bound),
            scheme=self.scheme,
            key_mode=self.key_mode,
            absent=Absent(
                dropouts=self.dropouts,
                colluders=self.colluders,
                seeds=grid.parts.opened_up_to if grid.parts else (),
            ),
        )
