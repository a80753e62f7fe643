"""Which exchanges are sound with which noise and scheme, and how they are accounted.

`SOUND` says which exchange, noise and scheme may be combined; what it does not list is refused,
with the reason in `REFUSED` or `_UNSEALED`. That a share of the noise needs an exchange of sums
alone, and what a scheme hides, is known to `accounting.vocabulary`; a `RunDescription` refuses by
the former as well. What depends on a number besides, such as hospitals or steps, is a check: of one
exchange here, of all of them in `clients.contract.combinations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from accounting.vocabulary import EXCHANGES, SCHEMES
from clients.contract.setting_tree import SettingTree


@dataclass(frozen=True, slots=True, kw_only=True)
class Soundness:
    """One row of the table: an exchange with a kind of noise.

    Attributes:
        schemes: sealing schemes under which the row's claim holds.
        accounting: how a patient's cost is counted.
    """

    schemes: tuple[str, ...]
    accounting: str


_ALL = tuple(SCHEMES)
_EXACT = tuple(name for name, scheme in SCHEMES.items() if scheme.opens == "grid")
_OPEN = ("plain", *_EXACT)

_SINGLE_UPDATES = "the server would see single updates that carry only 1/sqrt(K) of the noise"
#: Scheme -> why it does not keep a hospital's share of the noise inside the sum.
_UNSEALED: Mapping[str, str] = {
    "plain": f"nothing is sealed and {_SINGLE_UPDATES}.",
    "ckks": "what CKKS decrypts is approximate and tells of the key and of single updates; use "
    "bfv.",
}

_NOTHING = "none: no guarantee is claimed"
_CARRIED = "; the model travels in an AEAD envelope, whatever the scheme"
_OWN_HOSPITAL = (
    "a subsampled Gaussian event per step at the patient's own hospital, local q and N_k"
)

#: (exchange, noise) -> under which schemes it is sound, and how it is accounted.
SOUND: Mapping[tuple[str, str], Soundness] = {
    ("gradients", "none"): Soundness(schemes=_ALL, accounting=_NOTHING),
    ("gradients", "central"): Soundness(
        schemes=_OPEN, accounting="a subsampled Gaussian event per round"
    ),
    ("gradients", "local"): Soundness(
        schemes=_OPEN, accounting="a subsampled Gaussian event per round, each update alone"
    ),
    ("gradients", "semi-central"): Soundness(
        schemes=_EXACT, accounting="a subsampled Gaussian event per round, on the sum"
    ),
    ("weights", "none"): Soundness(schemes=_ALL, accounting=_NOTHING),
    ("weights", "local"): Soundness(
        schemes=_OPEN, accounting="a subsampled Gaussian event a local step, each noised alone"
    ),
    ("weights", "semi-central"): Soundness(
        schemes=_EXACT,
        accounting="a subsampled Gaussian event per round, on the sum; exactly one local step",
    ),
    ("layers", "none"): Soundness(
        schemes=_ALL,
        accounting="none: the server sees exact activations and loss gradients of single records",
    ),
    ("layers", "local"): Soundness(
        schemes=_OPEN,
        accounting="two Gaussian events per record and pass (activation, loss gradient) and one "
        "for its share in the sum of the layers at home; fixed padded batches, no amplification",
    ),
    ("cyclic", "none"): Soundness(schemes=_ALL, accounting=_NOTHING + _CARRIED),
    ("cyclic", "local"): Soundness(
        schemes=_ALL, accounting=f"{_OWN_HOSPITAL}; maximum over hospitals{_CARRIED}"
    ),
    ("single", "none"): Soundness(schemes=_ALL, accounting=_NOTHING + _CARRIED),
    ("single", "local"): Soundness(
        schemes=_ALL, accounting=f"{_OWN_HOSPITAL}; maximum over hospitals{_CARRIED}"
    ),
    ("ensemble", "none"): Soundness(
        schemes=_ALL, accounting=f"{_NOTHING}; every model is released, nothing is sealed"
    ),
    ("ensemble", "local"): Soundness(
        schemes=_ALL, accounting=f"{_OWN_HOSPITAL}; every model is released, nothing is sealed"
    ),
}

_POOLED = "pooled data are exchanged with nobody; use exchange.name gradients"
_SHARE = (
    "a hospital's share of the noise protects only inside a sum, and here {what}; use privacy."
    "regime FPDP"
)

#: (exchange, noise) -> why there is no row for it.
REFUSED: Mapping[tuple[str, str], str] = {
    **{(name, "central"): _POOLED for name in EXCHANGES if name != "gradients"},
    **{
        (name, "semi-central"): _SHARE.format(
            what="single records' messages reach the server"
            if exchange.messages
            else "models of single hospitals travel"
        )
        for name, exchange in EXCHANGES.items()
        if not exchange.sums_alone
    },
}


def scheme_of(settings: SettingTree) -> str:
    """Return what keeps single contributions from the server: the word that results carry.

    Sums are sealed by the scheme of the settings. A model on its way is in an AEAD envelope instead
    ("aead"), and the models of an ensemble travel open ("none").
    """
    if EXCHANGES[settings.exchange.name].sums:
        return settings.sealing.scheme
    return "none" if settings.exchange.name == "ensemble" else "aead"


def unsealed_shares(settings: SettingTree) -> str | None:
    """Return why the scheme does not keep shares of the noise inside the sum; None where it does.

    The scheme and the regime decide it, and whether the run is seeded: whatever the exchange.
    """
    if settings.regime.noise != "semi-central":
        return None
    scheme = settings.sealing.scheme
    reason = _UNSEALED.get(scheme)
    if reason is None and not SCHEMES[scheme].hides and not settings.seeded:
        reason = (
            f"{scheme} does not encrypt, so {_SINGLE_UPDATES}; it is for repeatable tests only "
            "(run.seed >= 0). Use bfv."
        )
    said = f"privacy.regime {settings.privacy.regime} with sealing.scheme {scheme}"
    return reason and f"{said}: {reason}"


def check_sound(settings: SettingTree) -> list[str]:
    """Return what makes the settings' combination unsound; empty when it is sound."""
    name, noise = settings.exchange.name, settings.regime.noise
    regime, scheme = settings.privacy.regime, settings.sealing.scheme
    row = SOUND.get((name, noise))
    if row is None:
        known = sorted({exchange for exchange, _ in SOUND})
        if name not in known:
            return [f"exchange.name = {name!r} is not available; available: {', '.join(known)}."]
        reason = REFUSED[(name, noise)]
        return [f"exchange.name = {name!r} is not sound with privacy.regime {regime}: {reason}."]
    if settings.regime.pooled and name != "gradients":
        return [f"exchange.name = {name!r} does not go with privacy.regime {regime}: {_POOLED}."]
    if scheme not in row.schemes:
        return [
            f"exchange.name = {name!r} with {noise} noise is not sound with sealing.scheme "
            f"{scheme!r}; sound: {', '.join(row.schemes)}."
        ]
    return [fault for check in _CHECKS.get(name, ()) if (fault := check(settings))]


def _one_step_under_shared_noise(s: SettingTree) -> str | None:
    if s.regime.noise != "semi-central" or s.exchange.local_steps == 1:
        return None
    return (
        f"exchange.local-steps = {s.exchange.local_steps} with privacy.regime FSCDP: a second step "
        "would start from weights that carry a share of the noise only, and no clip bounds what a "
        "patient does to it; use exchange.local-steps 1, or privacy.regime FPDP."
    )


def _pull_shrinks(s: SettingTree) -> str | None:
    if s.exchange.proximal * s.training.learning_rate <= 1.0:
        return None
    return (
        f"exchange.proximal * training.learning-rate = "
        f"{s.exchange.proximal * s.training.learning_rate:g} overshoots the shared model, so no "
        "range bounds the update; it must be at most 1."
    )


def _cycles_have_steps(s: SettingTree) -> str | None:
    if s.exchange.cycles <= s.training.rounds:
        return None
    return (
        f"exchange.cycles = {s.exchange.cycles} visits share training.rounds = "
        f"{s.training.rounds} steps; each needs one at least."
    )


def _labels_stay_home_with_noise(s: SettingTree) -> str | None:
    if s.exchange.labels == "home" or not s.regime.private:
        return None
    return (
        "exchange.labels = server with privacy.regime FPDP: a label that is sent is no number that "
        "noise could hide; use exchange.labels home, or privacy.regime F."
    )


_CHECKS: Mapping[str, tuple[Callable[[SettingTree], str | None], ...]] = {
    "weights": (_one_step_under_shared_noise, _pull_shrinks),
    "cyclic": (_cycles_have_steps,),
    "layers": (_labels_stay_home_with_noise,),
}
