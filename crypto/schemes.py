"""The table of sealing schemes, and how roles are made from a plan.

======== ============================================== ==================== ===================
scheme   what it is                                     opens to             hides
======== ============================================== ==================== ===================
plain    float64 vectors                                the float64 sum      nothing
modular  bfv's integers, tags and frames, in the clear  the exact grid sum   nothing
bfv      the same integers under encryption             the exact grid sum   everything
ckks     reals under encryption                         an approximate sum   all but openings
one-time integers under keys for one sum each           the exact grid sum   everything
======== ============================================== ==================== ===================

Roles are capabilities: `make_adder` takes public parameters alone, so a server that holds one
cannot decrypt.

    >>> import numpy as np
    >>> from crypto.planning import plan_sealing
    >>> from crypto.roles import Place, Quantiser
    >>> half_steps = Quantiser(step=0.5, bound=8.0)
    >>> plan = plan_sealing(values=3, hospitals=2, grid=half_steps, scheme="modular")
    >>> keys, place = make_keys(plan), Place(training="t", round=1, attempt=0)
    >>> adder, nonces = make_adder(plan, keys.key_id), {}  # at the server, blindly
    >>> for name, values in {"a": [1.0, 2.0, -3.0], "b": [0.5, 0.0, 1.0]}.items():
    ...     sealed = make_sealer(plan, keys, name).seal(np.array(values), place)  # at hospitals
    ...     adder.add(sealed)
    ...     nonces[name] = sealed.nonce  # in the signed header
    >>> make_opener(plan, keys).open(adder.total(), nonces, place).tolist()  # at hospitals
    [1.5, 2.0, -2.0]
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from crypto.bfv import BfvAdder, BfvOpener, BfvSealer, make_lattice_keys
from crypto.ckks import CkksOpener, CkksSealer
from crypto.errors import OpeningRefusedError
from crypto.key_shares import Answers
from crypto.keys import Keys
from crypto.modular import ModularAdder, ModularOpener, ModularSealer
from crypto.one_time import OneTimeAdder, OneTimeOpener, OneTimeSealer, Opening
from crypto.plain import PlainAdder, PlainOpener, PlainSealer
from crypto.plans import SealingPlan
from crypto.roles import Adder, Opener, Place, Sealed, Sealer


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How one scheme makes its keys and roles.

    Attributes:
        returnable: Whether an opened sum may be handed to a server.
    """

    keys: Callable[[SealingPlan], Keys]
    sealer: Callable[[SealingPlan, Keys, str], Sealer]
    adder: Callable[[SealingPlan, bytes | None], Adder]
    opener: Callable[[SealingPlan, Keys], Opener]
    returnable: bool = True


SCHEMES: dict[str, Scheme] = {
    "plain": Scheme(keys=Keys.fresh, sealer=PlainSealer, adder=PlainAdder, opener=PlainOpener),
    "modular": Scheme(
        keys=Keys.fresh, sealer=ModularSealer, adder=ModularAdder, opener=ModularOpener
    ),
    "bfv": Scheme(keys=make_lattice_keys, sealer=BfvSealer, adder=BfvAdder, opener=BfvOpener),
    "ckks": Scheme(
        keys=make_lattice_keys,
        sealer=CkksSealer,
        adder=BfvAdder,
        opener=CkksOpener,
        returnable=False,
    ),
    "one-time": Scheme(
        keys=Keys.fresh, sealer=OneTimeSealer, adder=OneTimeAdder, opener=OneTimeOpener
    ),
}


def make_keys(plan: SealingPlan) -> Keys:
    """New secrets for one federation."""
    return SCHEMES[plan.scheme].keys(plan)


def make_sealer(plan: SealingPlan, keys: Keys, hospital: str) -> Sealer:
    """A hospital's sealer; `hospital` is the name in its tags.

    Raises:
        KeyMismatchError: The keys are of another plan.
    """
    return SCHEMES[plan.scheme].sealer(plan, keys, hospital)


def make_opener(plan: SealingPlan, keys: Keys) -> Opener:
    """A hospital's opener of sums.

    Raises:
        KeyMismatchError: The keys are of another plan.
    """
    return SCHEMES[plan.scheme].opener(plan, keys)


def open_total(
    plan: SealingPlan,
    keys: Keys,
    total: Sealed,
    contributors: Mapping[str, bytes],
    place: Place,
    answers: Answers | None = None,
) -> Opening:
    """Open a sum at a hospital, under keys in shares with the holders' answers.

    Args:
        plan: The public parameters.
        keys: Of the hospital.
        total: What an adder returned.
        contributors: Each contributor's nonce by name.
        place: Where in the training the sum belongs.
        answers: Of the holders; None under keys that are not in shares.

    Raises:
        SealingError: It does not open, or is not of exactly these contributors.
    """
    if answers is not None and plan.sharing is not None:
        return OneTimeOpener(plan, keys).recover(total, contributors, place, answers)
    return Opening(make_opener(plan, keys).open(total, contributors, place), ())


def make_adder(plan: SealingPlan, key_id: bytes | None = None) -> Adder:
    """A server's adder, from public parameters only.

    Args:
        plan: The public parameters.
        key_id: The ceremony's public key id; without it the first vector added decides.
    """
    return SCHEMES[plan.scheme].adder(plan, key_id)


def require_returnable(plan: SealingPlan) -> None:
    """Refuse to hand an opened sum of this scheme, or a model made from it, to a server.

    Raises:
        OpeningRefusedError: The scheme's openings leak its key.
    """
    if not SCHEMES[plan.scheme].returnable:
        raise OpeningRefusedError(
            f"an opened {plan.scheme} sum carries an error that depends on the secret key and "
            "leaks it (Li and Micciancio 2021); it stays at the hospitals: use bfv"
        )
