"""How much an audit with canary patients does: its trainings, and what becomes of some answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from simulations.audit.canary_model import LARGE_NAME, PLACES, STACK
from simulations.audit.cases import CASES, SAMPLE
from simulations.audit.limits_kept import LIMITS
from simulations.audit.wire import Fate

if TYPE_CHECKING:
    from clients.contract.settings import ConfigValue
    from simulations.audit.wire import OnTheWay, Sent

#: Noise of one hospital where it is faint, in clips: a canary's part stands out of it.
_FAINT = 0.06
#: And where canaries of a quarter of a clip must stand out of it.
_FAINTER = 0.035
#: Of all hospitals together.
_FAINT_IN_SUMS = 0.075
#: The sampling rate there.
FAINT_RATE = 0.25


class Reading(Enum):
    """How what left is read."""

    #: Noise is faint: each part by itself, and the noise.
    PARTS = "parts"
    #: Noise is faint in opened sums, and nobody can open a single update.
    SUMS = "sums"
    #: Noise is faint, and single records show rows.
    ROWS = "rows"
    #: Noise is as a claim of epsilon asks for: coins are guessed.
    COINS = "coins"


@dataclass(frozen=True, kw_only=True)
class Form:
    """How much an audit does.

    Attributes:
        canaries: coins that are tossed.
        most_records: of one patient; above 1,024 they are added up piece by piece.
        rounds: of the training that a claim of epsilon is made of.
        cases: names of the trainings that are reconciled.
    """

    canaries: int
    most_records: int
    rounds: int
    cases: tuple[str, ...]


#: As little as shows a fault of any kind.
SMALL = Form(
    canaries=600,
    most_records=40,
    rounds=4,
    cases=("weights FPDP", "gradients FSCDP, one-time", LIMITS),
)
#: What anybody waits for, and what takes a minute or two.
QUICK = Form(canaries=1_200, most_records=1_100, rounds=12, cases=(*SAMPLE, LIMITS))
WHOLE = Form(canaries=4_000, most_records=1_100, rounds=40, cases=(*CASES, LIMITS))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A training over canaries.

    Attributes:
        title: a few words.
        reading: how what left is read.
        kind: of the file, "csv", "npz", or "pictures" of one point.
        changes: settings, dotted.
        on_the_way: what becomes of answers.
        faint: whether most canaries' gradients lie below the clip.
        hospitals: how many there are where it is more than four, six at the most.
        shares: of the classes, as declared, where they are evened out in the clip.
        counted: whether classes are counted beside gradients.
    """

    title: str
    reading: Reading
    kind: str
    changes: Mapping[str, ConfigValue]
    on_the_way: OnTheWay | None = None
    faint: bool = False
    hospitals: int = 0
    shares: tuple[float, float] | None = None
    counted: bool = False

    @property
    def seeded(self) -> bool:
        """Whether chances follow from a seed."""
        return int(self.changes.get("run.seed", -1)) >= 0

    @property
    def weights(self) -> tuple[float, float]:
        """What clipped gradients are multiplied by, by class: the rarer weighs 1."""
        if self.shares is None:
            return 1.0, 1.0
        first, second = self.shares
        return min(self.shares) / first, min(self.shares) / second


def lose(*places: tuple[int, str], killed: tuple[int, str] | None = None) -> OnTheWay:
    """Return what loses hospitals' answers to the first attempt at rounds.

    Args:
        places: (round, hospital) whose answers are lost.
        killed: whose answer is the last one before all processes are killed, and begin again.
    """
    fates = {(hospital, (round, 1)): Fate.LOST for round, hospital in places}
    if killed is not None:
        fates[killed[1], (killed[0], 1)] = Fate.KILLED

    def on_the_way(sent: Sent) -> Fate:
        return fates.get((sent.hospital, sent.place), Fate.ARRIVES)

    return on_the_way


#: Of trainings in which each hospital's own noise is enough.
_LOCAL: Mapping[str, ConfigValue] = {
    "training.sampling-rate": FAINT_RATE,
    "privacy.regime": "FPDP",
    "privacy.noise-multiplier": 0.1,
    # They are charged for, and at an epsilon as large as that of faint noise it is too much.
    "privacy.spare-attempts": 0,
}
_FAINT_PLANS = (
    Plan(
        title="gradients, FSCDP, bfv",
        reading=Reading.PARTS,
        kind="csv",
        changes={
            "exchange.name": "gradients",
            "training.rounds": 9,
            "training.sampling-rate": FAINT_RATE,
            "privacy.regime": "FSCDP",
            "privacy.dropouts": 1,
            "privacy.noise-multiplier": _FAINT * 3**0.5,
            "sealing.scheme": "bfv",
        },
        on_the_way=lose((3, "north"), (3, "south"), (5, "tiny")),
    ),
    Plan(
        title="weights, FPDP, two local steps",
        reading=Reading.PARTS,
        kind="pictures",
        changes={
            **_LOCAL,
            # Copies of a record are its patient's, and of a point they are the same.
            "training.augmentations": 2,
            "exchange.name": "weights",
            "exchange.local-steps": 2,
            "training.rounds": 4,
            "sealing.scheme": "plain",
        },
        on_the_way=lose(killed=(2, "south")),
    ),
    Plan(
        title="cyclic, FPDP, a step a visit",
        reading=Reading.PARTS,
        kind="npz",
        changes={
            **_LOCAL,
            "exchange.name": "cyclic",
            "exchange.cycles": 9,
            "training.rounds": 9,
        },
        on_the_way=lose(killed=(6, "north")),
    ),
)
#: Shares of the classes that are declared: a part of the commoner stands out of faint noise still.
_SHARES = (0.6, 0.4)
_SHORT: Mapping[str, ConfigValue] = {**_LOCAL, "training.rounds": 2}
_MORE_PLANS = (
    Plan(
        title="gradients, FSCDP, classes counted",
        reading=Reading.PARTS,
        kind="npz",
        counted=True,
        changes={
            **_SHORT,
            "exchange.name": "gradients",
            "training.class-shares": "learned",
            "privacy.regime": "FSCDP",
            "privacy.noise-multiplier": _FAINTER * 4**0.5,
        },
    ),
    Plan(
        title="gradients, FSCDP, a colluder",
        reading=Reading.PARTS,
        kind="npz",
        faint=True,
        changes={
            **_SHORT,
            "exchange.name": "gradients",
            "privacy.regime": "FSCDP",
            "training.rounds": 4,
            "privacy.colluders": 1,
            "privacy.noise-multiplier": _FAINTER * 3**0.5,
        },
        on_the_way=lose(killed=(2, "east")),
    ),
    Plan(
        title="gradients, CDP, classes evened out in the clip",
        reading=Reading.PARTS,
        kind="csv",
        shares=_SHARES,
        changes={
            **_SHORT,
            "exchange.name": "gradients",
            "training.class-shares": ",".join(map(str, _SHARES)),
            "training.balance": "clip",
            "privacy.regime": "CDP",
            "privacy.noise-multiplier": _FAINT,
            "data.largest-hospital": PLACES,
            "sealing.scheme": "plain",
        },
    ),
    Plan(
        title="single, FPDP, two steps, classes evened out in the loss",
        reading=Reading.PARTS,
        kind="npz",
        changes={**_SHORT, "exchange.name": "single", "training.class-shares": "0.8,0.2"},
    ),
    Plan(
        title="gradients, FSCDP, groups of two",
        reading=Reading.PARTS,
        kind="npz",
        hospitals=6,
        changes={
            **_SHORT,
            "exchange.name": "gradients",
            "exchange.group-size": 2,
            "exchange.robust": "median",
            "privacy.regime": "FSCDP",
            "privacy.noise-multiplier": _FAINT * 2**0.5,
        },
        on_the_way=lose((2, "north")),
    ),
    Plan(
        title="gradients, FPDP, seeded",
        reading=Reading.PARTS,
        kind="npz",
        changes={
            **_LOCAL,
            "exchange.name": "gradients",
            "training.rounds": 4,
            "run.seed": 7,
            "sealing.scheme": "plain",
        },
    ),
    Plan(
        title="gradients, FPDP, a large model",
        reading=Reading.PARTS,
        kind="npz",
        changes={
            **_SHORT,
            "exchange.name": "gradients",
            "training.rounds": 1,
            "model.name": LARGE_NAME,
            "sealing.scheme": "plain",
        },
    ),
    Plan(
        title="ensemble, FPDP, two steps",
        reading=Reading.PARTS,
        kind="npz",
        changes={**_SHORT, "exchange.name": "ensemble"},
    ),
)

#: Keys that open sums of all and nothing else; those in shares, with somebody missing where two
#: may be: of the two parts of the noise that can go one stays then, and one goes.
SUM_PLANS = (
    Plan(
        title="gradients, FSCDP, one-time keys",
        reading=Reading.SUMS,
        kind="npz",
        changes={
            **_SHORT,
            "exchange.name": "gradients",
            "privacy.regime": "FSCDP",
            "privacy.noise-multiplier": _FAINT_IN_SUMS,
            "privacy.spare-attempts": 2,
            "training.rounds": 4,
            "sealing.scheme": "one-time",
        },
        on_the_way=lose((2, "north"), killed=(3, "north")),
    ),
    Plan(
        title="gradients, FSCDP, one-time keys in shares",
        reading=Reading.SUMS,
        kind="npz",
        hospitals=5,
        changes={
            **_SHORT,
            "exchange.name": "gradients",
            "privacy.regime": "FSCDP",
            "privacy.noise-multiplier": _FAINT_IN_SUMS,
            "privacy.spare-attempts": 2,
            "privacy.dropouts": 2,
            "training.rounds": 3,
            "sealing.scheme": "one-time",
            "sealing.committee": "east,north,south",
            "sealing.silent-holders": 0,
        },
        on_the_way=lose((2, "tiny"), (3, "tiny"), (3, "west")),
    ),
)

_LAYERS = Plan(
    title="layers, FPDP",
    reading=Reading.ROWS,
    kind="npz",
    changes={
        "exchange.name": "layers",
        "model.name": STACK,
        "training.rounds": 4,
        "training.sampling-rate": 0.5,
        "privacy.regime": "FPDP",
        "privacy.noise-multiplier": 0.09,
        "privacy.spare-attempts": 0,
        "sealing.scheme": "plain",
    },
)


def plans_of(form: Form) -> tuple[Plan, ...]:
    """Return the trainings over canaries of an audit."""
    claimed = Plan(
        title=f"gradients, FSCDP, bfv, {form.rounds} rounds",
        reading=Reading.COINS,
        kind="npz",
        changes={
            "exchange.name": "gradients",
            "training.rounds": form.rounds,
            "training.sampling-rate": 0.2,
            "privacy.regime": "FSCDP",
            "privacy.target-epsilon": 3.0,
            "sealing.scheme": "bfv",
        },
    )
    return (*_FAINT_PLANS, *_MORE_PLANS, *SUM_PLANS, _LAYERS, claimed)
