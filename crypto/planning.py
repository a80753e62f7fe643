"""Planning how sums are sealed, from (values, hospitals, grid): the fewest bytes that have room.

It chooses how many values share a slot, the modulus and how many low bits of a ciphertext need not
travel. Whatever it makes, `crypto.plans` proves.
"""

from dataclasses import dataclass

from crypto.errors import CapacityError
from crypto.one_time_plans import Ring, Sharing, plan_layout
from crypto.parameters import (
    COEFFICIENT_PRIME,
    DEGREE,
    MAX_PLAIN_BITS,
    MIN_TAG_BITS,
    batching_prime,
    most_bits_cut,
)
from crypto.plans import KEY_MODES, SCHEME_NAMES, SealingPlan, check_counts
from crypto.roles import Quantiser
from crypto.thresholds import MOST_HOLDERS, plan_threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """Who may be missing, and who works with the server, where keys are shared.

    Attributes:
        dropouts: d, hospitals that may be missing from a sum.
        colluders: Hospitals that may work together with the server.
        committee: Names of those who hold shares; empty: all hospitals, or 20 who are drawn.
        silent: Holders that may not answer; None: as many as the dropouts.
        seeds: For each part of the noise that may be taken out of a sum, the most missing hospitals
            at which it is.
    """

    dropouts: int = 0
    colluders: int = 0
    committee: tuple[str, ...] = ()
    silent: int | None = None
    seeds: tuple[int, ...] = ()


NOBODY = Absent()


def plan_sealing(
    *,
    values: int,
    hospitals: int,
    grid: Quantiser,
    scheme: str,
    key_mode: str = "auto",
    absent: Absent = NOBODY,
) -> SealingPlan:
    """Plan the fewest bytes up that have room.

    Args:
        values: Length d of the vectors.
        hospitals: The most contributions a sum may hold, K.
        grid: The quantisation grid, as planned by the accounting.
        scheme: "plain", "modular", "bfv", "ckks" or "one-time".
        key_mode: "symmetric" (with seed: smallest up), "public", or "auto" for the smaller.
        absent: Who may be missing from a sum; one-time keys depend on it, other schemes do not.

    Raises:
        CapacityError: There is no room; the message says which number to change.
    """
    check_counts(values, hospitals)
    if scheme not in SCHEME_NAMES:
        raise CapacityError(f"unknown scheme {scheme!r}; known: {', '.join(SCHEME_NAMES)}")
    if key_mode not in ("auto", *KEY_MODES):
        raise CapacityError(f"unknown key mode {key_mode!r}; known: auto, {', '.join(KEY_MODES)}")
    mode = "symmetric" if key_mode == "auto" else key_mode
    if scheme == "one-time":
        return _one_time(values, hospitals, grid, absent)
    if scheme in ("plain", "ckks"):
        return SealingPlan(
            scheme=scheme,
            key_mode="none" if scheme == "plain" else mode,
            values=values,
            hospitals=hospitals,
            grid=grid,
            values_per_slot=1,
            plain_modulus=0,
            bits_cut_up=0,
            bits_cut_down=(0, 0),
        )
    return _smallest(values, hospitals, grid, scheme, mode)


def plan_sharing(hospitals: int, absent: Absent) -> Sharing | None:
    """How keys are shared so that hospitals may be missing; None where none may be.

    Args:
        hospitals: K.
        absent: Who may be missing from a sum, and who works with the server.

    Raises:
        CapacityError: Too many may be missing, or too many collude; says what would do.
    """
    if not absent.dropouts:
        return None
    # More than can hold shares draw a committee in the ceremony, where none is named.
    holders = len(absent.committee) or min(hospitals, MOST_HOLDERS)
    silent = absent.dropouts if absent.silent is None else absent.silent
    threshold = plan_threshold(
        hospitals=hospitals,
        holders=holders,
        dropouts=absent.dropouts,
        silent=silent,
        colluders=absent.colluders,
    )
    return Sharing(
        dropouts=absent.dropouts,
        holders=holders,
        threshold=threshold,
        committee=tuple(sorted(absent.committee)),
        seeds=absent.seeds,
    )


def _one_time(values: int, hospitals: int, grid: Quantiser, absent: Absent) -> SealingPlan:
    sharing = plan_sharing(hospitals, absent)
    # Shares that are not derived, and an answer.
    sent = sharing.holders - sharing.threshold + 2 if sharing else 1
    layout = plan_layout(values=values, hospitals=hospitals, grid=grid, keys_sent=sent)
    return SealingPlan(
        scheme="one-time",
        key_mode="threshold" if sharing else "full",
        values=values,
        hospitals=hospitals,
        grid=grid,
        values_per_slot=layout.fields,
        plain_modulus=0,
        bits_cut_up=layout.bits_cut,
        bits_cut_down=(0, 0),
        ring=Ring(degree=layout.degree, modulus_bits=layout.modulus_bits),
        sharing=sharing,
    )


def _smallest(values: int, hospitals: int, grid: Quantiser, scheme: str, mode: str) -> SealingPlan:
    radix = hospitals * (grid.levels - 1) + 1
    found: list[SealingPlan] = []
    for per_slot in range(1, MAX_PLAIN_BITS):
        least = max(radix**per_slot, 2**MIN_TAG_BITS)
        if least.bit_length() > MAX_PLAIN_BITS:
            break
        modulus = batching_prime(least, DEGREE)
        cut = most_bits_cut(mode, hospitals, COEFFICIENT_PRIME / (2 * modulus))
        if cut is None or modulus.bit_length() > MAX_PLAIN_BITS:
            break
        sealed = scheme == "bfv"
        found.append(
            SealingPlan(
                scheme=scheme,
                key_mode=mode if sealed else "none",
                values=values,
                hospitals=hospitals,
                grid=grid,
                values_per_slot=per_slot,
                plain_modulus=modulus,
                bits_cut_up=cut[0] if sealed else 0,
                bits_cut_down=cut[1] if sealed else (0, 0),
            )
        )
    if not found:
        raise CapacityError(
            f"{grid.bits} bits per value for {hospitals} hospitals leave no room in one slot "
            f"(at most about {MAX_PLAIN_BITS} bits together): use a coarser grid or fewer hospitals"
        )
    return min(found, key=lambda plan: (plan.bytes_up, -plan.values_per_slot))
