"""What each observer of a run has before its eyes: the noise that is left, and why."""

from __future__ import annotations

from dataclasses import dataclass

from accounting.noise import multiplier_against
from accounting.runs import RunDescription
from accounting.vocabulary import EXCHANGES, SCHEMES


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one observer has.

    Attributes:
        observer: who.
        multiplier: the noise left for this observer, in units of the clip; None: not private.
        why: what it sees.
        binds: whether the run's target is a promise about it.
        shared: m, for a patient who moves one sum from m hospitals.
        repeats: releases about the patient for each one of the schedule.
        single: whether it sees single updates, whose rounding is post-processing.
        knows: other hospitals in a sum whose noise it subtracts.
        sealed: whether it holds sealed updates: the claim then rests on encryption too.
    """

    observer: str
    multiplier: float | None
    why: str
    binds: bool = False
    shared: int = 1
    repeats: int = 1
    single: bool = False
    knows: int = 0
    sealed: bool = False


def views_of(run: RunDescription) -> list[View]:
    """The observers of a run and what they see, most public first within a regime."""
    if run.pooled:
        return _curator_views(run)
    if not run.noisy:
        return _exact_views(run)
    return _shared_noise_views(run) if run.regime == "FSCDP" else _local_noise_views(run)


def _curator_views(run: RunDescription) -> list[View]:
    curator = View(observer="curator", multiplier=None, why="holds the pooled data")
    if not run.noisy:
        why = "the model is an exact function of the data"
        return [curator, View(observer="public after release", multiplier=None, why=why)]
    sigma = run.noise_multiplier
    views = [
        curator,
        View(
            observer="public after release",
            multiplier=sigma,
            binds=True,
            single=True,
            why="sees the model, made from sums with noise sigma*C",
        ),
    ]
    for m in run.shared_hospitals:
        views.append(
            View(
                observer=f"public, of a patient in {m} hospitals",
                multiplier=sigma,
                shared=m,
                single=True,
                why="unless the curator links the patient's records and clips them together",
            )
        )
    return views


def _exact_views(run: RunDescription) -> list[View]:
    exact = "no noise: "
    if run.sums_alone and run.sealed:
        server = "sees sealed vectors only, and at release a model that is exact"
        other = f"opens exact sums of groups of {run.group}" if run.group else "opens exact sums"
        if run.in_sum == 2:
            other += "; with two hospitals that is the other's own update"
    elif run.sums_alone:
        server, other = "sees every exact update", "receives the exact model"
        if run.group:
            other = f"receives exact sums of groups of {run.group}"
            if run.group == 1:
                other = "receives every exact update"
    elif run.exchange == "layers":
        server, other = "sees exact activations of single records", "may receive the exact layers"
    else:
        server, other = "may see the exact models", "receives the exact models it is sent"
    views = [
        View(observer="server", multiplier=None, why=exact + server),
        View(
            observer="public after release",
            multiplier=None,
            why=exact + "the model is an exact function of the data",
        ),
    ]
    if run.hospitals > 1:
        views.append(View(observer="any one other hospital", multiplier=None, why=exact + other))
        why = exact + "every update is open to whoever holds the key and the sealed vectors"
        if run.sums_alone and SCHEMES[run.scheme].sums_alone:
            views += _exact_views_of_server_with_hospitals(run)
        elif run.sums_alone:
            views.append(View(observer="server + one key holder", multiplier=None, why=why))
    return views


def _exact_views_of_server_with_hospitals(run: RunDescription) -> list[View]:
    """The server and hospitals that work with it, under keys that open sums and no more."""
    why = "no noise: they open exact sums"
    if run.held is not None:
        why += (
            "; of a round that is done again without one hospital two, which differ by its update"
        )
    few = View(observer="server + any one other hospital", multiplier=None, why=why)
    too_many = run.in_sum - 1 if run.held is None else run.held + 1
    many = View(
        observer=_server_with(run, too_many), multiplier=None, why="no noise: open single updates"
    )
    return [few, many] if too_many > 1 else [many]


def _shared_noise_views(run: RunDescription) -> list[View]:
    """FSCDP: shares of noise that protect inside a sum."""
    return [
        _server_of_shares(run),
        View(
            observer="public after release",
            multiplier=run.plan().multiplier_of_sum,
            binds=True,
            why="sees models made from sums that carry noise sigma*C",
        ),
        *_hospitals_of_shares(run),
        *_shared_patients_of_shares(run),
    ]


def _server_of_shares(run: RunDescription) -> View:
    if run.sealed:
        return View(
            observer="server",
            multiplier=run.plan().multiplier_of_sum,
            binds=True,
            sealed=True,
            why="sees sealed vectors it cannot open, and released models made from noisy sums",
        )
    return View(
        observer="server",
        multiplier=run.plan().multiplier_of_update,
        single=True,
        why=f"scheme {run.scheme} hides nothing: sees every single update, which carries "
        "its hospital's share of the noise only",
    )


def _hospitals_of_shares(run: RunDescription) -> list[View]:
    """One other hospital, colluding hospitals, and a hospital together with the server."""
    plan = run.plan()
    views = []
    if run.hospitals > 1:
        views.append(
            View(
                observer="any one other hospital",
                multiplier=multiplier_against(plan, 1),
                binds=run.colluders >= 1,
                knows=1,
                why=_opens(run),
            )
        )
    if run.colluders:
        views.append(
            View(
                observer=_colluders(run),
                multiplier=plan.multiplier_of_sum,
                binds=True,
                knows=run.colluders,
                why="subtract their own noise; the rest was planned to be enough",
            )
        )
    if run.in_sum > 1 and SCHEMES[run.scheme].sums_alone:
        views += _server_with_hospitals(run)
    elif run.hospitals > 1:
        why = (
            "opens single updates, composed over all rounds: only the share of the noise of the "
            "patient's own hospital is left (the same holds if all other hospitals collude)"
        )
        views.append(
            View(
                observer="server + one key holder",
                multiplier=plan.multiplier_of_update,
                single=True,
                why=why,
            )
        )
    return views


def _opens(run: RunDescription) -> str:
    if not run.group:
        return "opens every sum and knows its own share of the noise"
    return (
        f"opens the sum of every group of {run.group}, which carries the noise of that group "
        "alone, and knows its own share of it"
    )


def _server_with_hospitals(run: RunDescription) -> list[View]:
    """The server and hospitals that work with it, under keys that open sums and no more."""
    plan, others = run.plan(), run.in_sum - 1
    held = others - 1 if run.held is None else min(run.held, others - 1)
    how = "the keys of all hospitals open it together"
    if run.held is not None:
        how = "enough of those who hold shares of keys open one sum a round"
    views = [
        View(
            observer=f"server + any {_others(count)}",
            multiplier=multiplier_against(plan, count),
            binds=run.colluders >= count,
            knows=count,
            sealed=True,
            why=f"open every sum, and no single update: {how}",
        )
        for count in sorted({1, run.colluders, run.held or 1})
        if 1 <= count <= held
    ]
    return [*views, _server_with_too_many(run, held + 1)]


def _server_with_too_many(run: RunDescription, count: int) -> View:
    """The server and the fewest hospitals that learn a single update."""
    plan = run.plan()
    return View(
        observer=_server_with(run, count),
        # All seeds are open to them, so of noise in parts n_0 alone is left.
        multiplier=plan.kept(0),
        binds=run.colluders >= count,
        single=True,
        why="subtract their own updates and noise: the share of the patient's hospital is left"
        if run.held is None
        else "more than shared keys are held against: open single updates, and take out of each "
        "whatever noise can be taken out of a sum",
    )


def _server_with(run: RunDescription, count: int) -> str:
    """The server with so many hospitals or more."""
    if count == run.hospitals - 1:
        return "server + all other hospitals"
    return f"server + any {_others(count)} or more"


def _shared_patients_of_shares(run: RunDescription) -> list[View]:
    """The server's view of a patient who is known to several hospitals."""
    plan, sealed = run.plan(), run.sealed
    return [
        View(
            observer=f"server, of a patient in {m} hospitals",
            multiplier=plan.multiplier_of_sum if sealed else plan.multiplier_of_update,
            shared=m if sealed else 1,
            repeats=1 if sealed else m,
            single=not sealed,
            sealed=sealed,
            why="every hospital samples and clips the patient by itself",
        )
        for m in run.shared_hospitals
        if m <= run.hospitals
    ]


def _local_noise_views(run: RunDescription) -> list[View]:
    """FPDP: everything that leaves a hospital carries sigma*C by itself."""
    sigma = run.noise_multiplier
    if run.exchange == "layers":
        seen = "sees every record's noised activation and loss gradient (for one record a patient)"
        other = "may receive the layers that were trained on noised messages"
    elif EXCHANGES[run.exchange].travels:
        seen = "sees at most the models, each private by its hospital's own noise"
        other = "sees the models it is sent, each private by its hospital's own noise"
    else:
        seen = "each update is private by its own hospital's noise, sealed or not"
        other = "may open every sum and subtract its own noise: the patient's hospital's remains"
    views = [
        View(observer="server", multiplier=sigma, binds=True, single=True, why=seen),
        View(
            observer="public after release",
            multiplier=sigma,
            binds=True,
            single=True,
            why="sees models made from what left the hospitals",
        ),
    ]
    if run.hospitals > 1:
        who = _colluders(run) if run.colluders else None
        names = ["any one other hospital", who, "server + all other hospitals"]
        views += [
            View(observer=name, multiplier=sigma, binds=True, single=True, why=other)
            for name in names
            if name
        ]
    views += [
        View(
            observer=f"server, of a patient in {m} hospitals",
            multiplier=sigma,
            repeats=m,
            single=True,
            why=f"what {m} hospitals release about the patient composes",
        )
        for m in run.shared_hospitals
        if m <= run.hospitals
    ]
    return views


def _colluders(run: RunDescription) -> str:
    return f"any {run.colluders} colluding hospital{'s' if run.colluders > 1 else ''}"


def _others(count: int) -> str:
    return "one other hospital" if count == 1 else f"{count} other hospitals"
