"""What a training is bound to: the digest of its terms, which its very id is made of.

Every hospital derives the terms for itself, from public numbers only, and refuses an id that they
do not fit: it needs no memory for that. Three digests:

* *terms*: equal at every hospital; settings that bind, plans, public facts and shapes;
* *own*: what a hospital's own file says instead of the run; never sent, compared at every message;
* *members*: the offers of all who take part.

A text is canonical: ASCII JSON of dotted keys, sorted, without spaces, numbers that are no integers
as `float.hex`. Two ends that derive one bit differently have different digests, and nothing is
asked of a hospital then.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from clients.contract.faults import Code, Fault
from clients.contract.model_settings import OWN
from clients.contract.setting_group import binds_of, kebab, since_of
from clients.contract.setting_tree import SettingTree
from crypto.offers import offers_digest

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from accounting.grid import GridPlan
    from accounting.noise import NoisePlan
    from clients.contract.terms import Terms
    from crypto.offers import Offer

NONCE_BYTES = 16
#: Bind of a training whose terms have not been bound.
UNBOUND = bytes(32)

_TERMS, _OWN = "asclepias terms 1\n", "asclepias own 1\n"
_DIGEST = 32
_DECLARED = "facts.declared"
_HEX = re.compile(r"-?0x[01]\.[0-9a-f]+p[+-]\d+")
_ID_LENGTH = 40  # 200 bits: a submitter may look for two sets of terms with one id

Plain = bool | int | float | str | None
Value = Plain | Mapping[str, "Value"] | tuple["Value", ...] | list["Value"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicFacts:
    """What is public about the records that a training is over.

    Attributes:
        task: kind of question.
        unit: whom a guarantee covers: a "patient", or a "record" where no patients are named.
        shape: of one input row.
        classes: names of the classes, in label order.
        ranges: lowest and highest value of every input.
        declared: what the file beside the data declares, key and value as it is spelled there;
            empty where a data set needs no such file.
    """

    task: str
    unit: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...]
    declared: tuple[tuple[str, str], ...] = ()

    @classmethod
    def own(cls, unit: str) -> PublicFacts:
        """Return what both ends know of records that an app brings: whom a guarantee covers.

        The rest is in the app's own code, which is the same at every hospital.
        """
        return cls(task=OWN, unit=unit, shape=(), classes=(), ranges=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One tensor of the model: its name, shape, and dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundTerms:
    """Everything that all hospitals of one training agree on, as plain values.

    Attributes:
        settings: the run's settings that bind, by dotted key.
        noise_multiplier: sigma.
        hospitals: K.
        patients: N.
        largest_hospital: the most patients of one hospital.
        invited: the hospitals that may take part.
        schedule: how often a patient is asked about.
        noise: the noise plan.
        grid: the grid; what it costs in epsilon follows from these numbers.
        sealing: the sealing plan.
        spare_attempts: attempts beside one per round, which the noise was planned for.
        failed_openings: F, how many sums may fail to open at a hospital.
        facts: what is public about the records.
        parameters: the model's tensors, in its own order.
        weights: SHA-256 of the file of starting weights, hex; "" where there is none.
        groups: names of the tensors that are opened together; empty where all are.
    """

    settings: Mapping[str, Plain]
    noise_multiplier: float
    hospitals: int
    patients: int
    largest_hospital: int
    invited: tuple[str, ...]
    schedule: Mapping[str, Plain]
    noise: Mapping[str, Value]
    grid: Mapping[str, Plain]
    sealing: Mapping[str, Value]
    spare_attempts: int
    failed_openings: int
    facts: PublicFacts
    parameters: tuple[Parameter, ...]
    weights: str = ""
    groups: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(
        cls,
        settings: SettingTree,
        terms: Terms,
        *,
        noise_multiplier: float,
        largest_hospital: int,
        facts: PublicFacts,
        parameters: Iterable[Parameter],
        spare_attempts: int,
        failed_openings: int,
        weights: str = "",
        groups: tuple[tuple[str, ...], ...] = (),
    ) -> BoundTerms:
        """Put the terms together.

        Args:
            settings: the run's, before a site's own replace any of them.
            terms: as derived from them; their training id does not enter.
            noise_multiplier: sigma.
            largest_hospital: the most patients of one hospital.
            facts: what is public about the records.
            parameters: the model's tensors, in its own order.
            spare_attempts: attempts beside one per round.
            failed_openings: F.
            weights: SHA-256 of the file of starting weights, hex; "" where there is none.
            groups: names of the tensors that are opened together.
        """
        return cls(
            settings=bound_settings(settings),
            noise_multiplier=float(noise_multiplier),
            hospitals=terms.hospitals,
            patients=terms.patients,
            largest_hospital=largest_hospital,
            invited=settings.partition.invited,
            schedule=asdict(terms.schedule),
            noise=_noise_of(terms.noise),
            grid=_grid_of(terms.grid),
            sealing=json.loads(terms.sealing.to_json()),
            spare_attempts=spare_attempts,
            failed_openings=failed_openings,
            facts=facts,
            parameters=tuple(parameters),
            weights=weights,
            groups=groups,
        )

    def text(self) -> str:
        """The canonical text."""
        listed = [[one.name, list(one.shape), one.dtype] for one in self.parameters]
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        document = {**own, "facts": asdict(self.facts), "parameters": listed}
        return _TERMS + _canonical(document)


def _noise_of(plan: NoisePlan) -> dict[str, Value]:
    return {
        "name": plan.name,
        "hospitals": plan.hospitals,
        "dropouts": plan.dropouts,
        "colluders": plan.colluders,
        "multiplier-of-update": float(plan.multiplier_of_update),
        "multiplier-of-sum": float(plan.multiplier_of_sum),
        # Left out where noise is whole, as in the terms of trainings before there were parts.
        **({"levels": list(plan.parts.levels)} if plan.parts else {}),
    }


def _grid_of(grid: GridPlan) -> dict[str, Plain]:
    # The slack is left out: processors differ in its last bits, and it follows from these.
    return {
        "step": float(grid.step),
        "bound": float(grid.bound),
        "clamp": float(grid.clamp),
        "noise-stddev": float(grid.noise_stddev),
        "draws": float(grid.draws),
        "sums": float(grid.sums),
        "summed": grid.summed,
    }


def bound_settings(settings: SettingTree) -> dict[str, Plain]:
    """Return the settings that bind; one added later stays out while it has its default."""
    kept = {}
    for key, field, value in _fields(settings):
        if binds_of(field) == "terms" and not (since_of(field) and value == field.default):
            kept[key] = value
    return kept


def own_text(
    settings: SettingTree,
    *,
    cohort: str,
    patients: int,
    partition: int | None,
    ledger: bytes,
    test_mode: bool,
) -> str:
    """Return the canonical text of what is a hospital's own.

    Args:
        settings: with the site's own in the place of the run's.
        cohort: the name that the hospital's ledger is kept under.
        patients: N_k as the hospital declares it; 0 where it does not.
        partition: which part of a public data set it plays; None at a real hospital.
        ledger: which ledger it keeps.
        test_mode: whether it takes part in seeded runs.
    """
    document: dict[str, Value] = {
        "settings": {k: v for k, f, v in _fields(settings) if binds_of(f) == "own"},
        "cohort": cohort,
        "patients": patients,
        "partition": partition,
        "ledger": ledger.hex(),
        "test-mode": test_mode,
    }
    return _OWN + _canonical(document)


def terms_digest(text: str) -> bytes:
    """Return the digest of the text of terms, 32 bytes."""
    return _digest(text, _TERMS)


def own_digest(text: str) -> bytes:
    """Return the digest of a hospital's own text, 32 bytes."""
    return _digest(text, _OWN)


def members_digest(offers: Iterable[Offer]) -> bytes:
    """Return the digest of all offers, 32 bytes; their order does not matter."""
    return bytes.fromhex(offers_digest(offers))


def bind_digest(terms: bytes, members: bytes) -> bytes:
    """Return what headers are bound to: the digest of terms and members, 32 bytes."""
    _check_size("a digest of terms", terms, _DIGEST)
    _check_size("a digest of members", members, _DIGEST)
    return hashlib.sha256(b"asclepias bind 1\n" + terms + members).digest()


def training_id(terms: bytes, nonce: bytes) -> str:
    """Return the id of a training: 40 small letters and digits, made of its terms.

    Args:
        terms: `terms_digest`, 32 bytes.
        nonce: 16 random bytes of whoever submits it.
    """
    _check_size("a digest of terms", terms, _DIGEST)
    _check_size("a training's nonce", nonce, NONCE_BYTES)
    digest = hashlib.sha256(b"asclepias training 1\n" + terms + nonce).digest()
    return base64.b32encode(digest).decode().lower()[:_ID_LENGTH]


def check_training_id(training: str, terms: bytes, nonce: bytes) -> None:
    """Insist that a training's id is made of these terms.

    Raises:
        Fault: it is not: the id stands for other terms.
    """
    if len(terms) != _DIGEST or len(nonce) != NONCE_BYTES or training != training_id(terms, nonce):
        raise Fault(Code.TRAINING_BOUND, f"{training!r} is not made of the terms of this run")


def differing(old_text: str, new_text: str) -> list[str]:
    """Return the keys in which two canonical texts differ, sorted; for a hospital's own log."""
    old, new = (json.loads(text.partition("\n")[2]) for text in (old_text, new_text))
    missing = object()
    return sorted(k for k in old.keys() | new.keys() if old.get(k, missing) != new.get(k, missing))


def differences(theirs: str, own: str) -> list[str]:
    """Say in which keys two canonical texts differ, with both values, a sentence each.

    Raises:
        ValueError: a text is none.
    """
    said = [json.loads(text.partition("\n")[2]) for text in (theirs, own)]
    read = [{**one, **_declared(one.pop(_DECLARED, []))} for one in said]
    return [
        f"{key} is {_shown(read[0].get(key))} in the run, and {_shown(read[1].get(key))} here"
        for key in sorted(read[0].keys() | read[1].keys())
        if read[0].get(key) != read[1].get(key)
    ]


def _declared(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {f"declared {key}": value for key, value in pairs}


def _shown(value: object) -> str:
    """A value as a person reads it: floats in decimal."""
    if isinstance(value, list):
        return "[" + ", ".join(_shown(one) for one in value) + "]"
    if isinstance(value, str) and _HEX.fullmatch(value):
        return f"{float.fromhex(value):g}"
    return "not there" if value is None else str(value)


def _fields(settings: SettingTree) -> Iterable[tuple[str, FieldInfo, Plain]]:
    """Every setting: its dotted key, its field, its value."""
    for group in type(settings).model_fields:
        values = getattr(settings, group)
        for name, field in type(values).model_fields.items():
            yield f"{group}.{kebab(name)}", field, getattr(values, name)


def _canonical(document: Mapping[str, Value]) -> str:
    flat = dict(_flat("", document))
    return json.dumps(flat, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _flat(prefix: str, value: Value) -> Iterable[tuple[str, Value]]:
    """Dotted keys of nested groups; `_` and `-` in a name are the same."""
    if not isinstance(value, Mapping):
        yield prefix, _exact(value)
        return
    for name, inner in value.items():
        yield from _flat(f"{prefix}.{kebab(name)}" if prefix else kebab(name), inner)


def _exact(value: Value) -> Value:
    """A value without rounding: floats in hexadecimal.

    Raises:
        ValueError: it is not finite, or of another type.
    """
    if isinstance(value, tuple | list):
        return [_exact(inner) for inner in value]
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is not float or not math.isfinite(value):
        raise ValueError(f"{value!r} of type {type(value).__name__} has no canonical text")
    return value.hex()


def _digest(text: str, prefix: str) -> bytes:
    if not text.startswith(prefix):
        raise ValueError(f"the text does not begin with {prefix!r}")
    return hashlib.sha256(text.encode("ascii")).digest()


def _check_size(what: str, data: bytes, size: int) -> None:
    if len(data) != size:
        raise ValueError(f"{what} has {size} bytes, found {len(data)}")
