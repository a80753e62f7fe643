"""``report.html``: one self-contained page from which a run can be judged.

It answers first what a privacy officer asks: was it private, against whom, how good, at what cost.
Everything is read from the run folder; figures are inlined as SVG.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accounting.vocabulary import REGIMES
from crypto.whole_file import write_shared
from simulations.pages.account_book import (
    moment_text,
    overview_rows,
    read_statements,
    spending_rows,
)
from simulations.pages.attacks import attack_parts
from simulations.pages.audit import audit_part
from simulations.pages.doubt import COLUMNS, doubt_caption, doubt_rows
from simulations.pages.merit import (
    LEARNT,
    class_rows,
    delta_is_large,
    delta_text,
    holdout_text,
    merit_rows,
    part_columns,
)
from simulations.pages.tables import (
    is_attacked,
    observer_caption,
    observer_rows,
    resting_text,
    summary_rows,
)
from simulations.pages.task_words import worth_text
from simulations.pages.template import PAGE, REPORT, Answer, fill_page
from simulations.pages.wording import (
    ABSENT,
    PATIENT,
    PER_RECORD,
    RECORD,
    bytes_text,
    epsilon_text,
    seconds_text,
    share_text,
    versions_text,
)
from strategies.run.reading import NoRun, RunResult

if TYPE_CHECKING:
    from simulations.pages.drawing import Drawn

#: Figures that show hospitals one by one, or how long their patients took.
OF_HOSPITALS = ("split", "hospitals", "phases")
#: Said of a claim that a patient in N may be shown whole under.
LARGE_DELTA = "No: delta is above one patient in all."
#: Rows of the table of ledgers; what is beyond is summed up in the last.
MOST_LEDGERS = 25


def write_report(run: RunResult, drawn: Drawn | None = None) -> Path:
    """Write ``report.html`` into the run folder and return its path.

    Args:
        run: what it is about.
        drawn: its figures, where they are drawn already.
    """
    file = run.path / REPORT
    write_shared(file, render_report(run, drawn).encode(), durable=False)
    return file


def render_report(run: RunResult, drawn: Drawn | None = None) -> str:
    """Return the page; arguments as for `write_report`."""
    from simulations.pages.drawing import inline_figures
    from simulations.pages.figures import DRAWINGS, draw_all

    statements = _statements(run)
    observers = run.privacy.get("observers") or []
    drawn = draw_all(run) if drawn is None else drawn
    heading, columns, caption = part_columns(run.summary)
    return fill_page(
        PAGE,
        title=f"{_config(run, 'run.scenario')}: {_regime_title(run)}",
        subtitle=_subtitle(run),
        answers=[answer_private(run), answer_whom(run), answer_good(run), answer_cost(run)],
        observers=observer_rows(observers),
        observers_caption=observer_caption(observers, _unit(run)),
        resting=resting_text(observers),
        unit=_unit(run),
        attacked=is_attacked(observers),
        audit=audit_part(run.privacy.get("audit")),
        attacks=attack_parts(run.attacks),
        what=_what(run),
        by_class=class_rows(run.summary),
        class_heading=heading,
        class_columns=columns,
        class_caption=caption,
        doubt=doubt_rows(run.doubt),
        doubt_columns=COLUMNS,
        doubt_caption=doubt_caption(run.doubt),
        results=summary_rows(run.summary) if run.summary else [("status", "no summary yet")],
        figures=inline_figures(drawn),
        figures_note=_figures_note(
            run, [DRAWINGS[name].title for name in OF_HOSPITALS if name not in drawn]
        ),
        ledgers=_shortened(overview_rows(statements)),
        spending=[row for one in statements[:1] for row in spending_rows(one)],
        faults=run.of_kind("fault"),
        commands=_commands(run),
        repeat_note=_repeat_note(run),
        settings=[(key, _setting(value)) for key, value in sorted(run.config.items())],
        versions=versions_text(
            run.summary.get("versions") or {}, run.provenance.get("platform", "")
        ),
    )


def _unit(run: RunResult) -> str:
    """Whom the run's epsilons cover: a patient, or a record where the data name no patients."""
    return str(run.privacy.get("unit", PATIENT))


def answer_private(run: RunResult) -> Answer:
    """Whether the run was private, and by how much."""
    question, summary = "Was it private?", run.summary
    epsilon = summary.get("epsilon")
    if not summary:
        return Answer(question=question, headline="Not known: the run has not ended.")
    if not epsilon:
        return Answer(
            question=question,
            headline="No: no noise was added.",
            lines=[f"Whoever sees the model or the sums may learn about single {_unit(run)}s."],
            tone="no",
        )
    if (audit := summary.get("audit")) and not audit["passed"]:
        return Answer(
            question=question,
            headline="No: an attack has shown that it is not what it says.",
            lines=audit["failures"],
            tone="no",
        )
    spent = (
        f"{epsilon_text(epsilon[name])} ({name.upper()})"
        for name in ("prv", "rdp")
        if name in epsilon
    )
    claim = f"epsilon {' or '.join(spent)} at delta {summary['delta']:g}"
    if summary.get("seeded"):
        return Answer(
            question=question,
            headline="No: the run was seeded.",
            lines=[f"Its noise can be repeated. Unseeded, it would have had {claim}."],
            tone="no",
        )
    if delta_is_large(summary):
        said = [f"It had {claim}.", f"Delta {delta_text(summary)}."]
        return Answer(question=question, headline=LARGE_DELTA, lines=said, tone="no")
    return Answer(
        question=question,
        headline=f"Yes: {claim}.",
        lines=[
            f"Adding or removing one {_unit(run)} at one hospital changes the odds of whatever the "
            f"server or the public may see by a factor of at most {_odds(epsilon)} (e to the "
            "epsilon), but for a chance of delta.",
            *([f"Every epsilon is {PER_RECORD}."] if _unit(run) == RECORD else []),
            *_uncovered(run),
            *_audited(run),
            *_left(run),
        ],
        tone="yes",
    )


def _uncovered(run: RunResult) -> list[str]:
    """Say whom no epsilon covers, where that is known."""
    left_out = holdout_text(run.summary)
    return [f"No epsilon covers: {left_out}."] if left_out else []


def _audited(run: RunResult) -> list[str]:
    """Say that it was attacked, where it was."""
    if not run.privacy.get("audited"):
        return []
    least = (run.summary.get("audit") or {}).get("epsilon_at_least") or {}
    shown = f": against the server, epsilon is at least {epsilon_text(least['server'])} (95%)"
    return [f"Audited: an attack found nothing against it{shown if 'server' in least else ''}."]


def _left(run: RunResult) -> list[str]:
    """Say what is left of the target, by the accountant that the claim is made with."""
    target = run.progress.facts.get("target_epsilon")
    spent = run.summary["epsilon"].get(run.config.get("privacy.accountant", "prv"))
    if not target or spent is None:
        return []
    left = epsilon_text(max(target - spent, 0.0))
    return [f"Of the epsilon {target:g} that was allowed, {left} is left."]


def _odds(epsilon: Mapping[str, float]) -> str:
    return f"{math.exp(min(*epsilon.values(), 700.0)):.3g}"


def answer_whom(run: RunResult) -> Answer:
    """Against whom the target holds, and who could learn more."""
    question, observers = "Against whom?", run.privacy.get("observers") or []
    bound = [one["observer"] for one in observers if one.get("binds_target")]
    others = [
        f"{one['observer']} ({_worst(one['epsilon'])})"
        for one in observers
        if not one.get("binds_target")
    ]
    if not observers:
        return Answer(question=question, headline="Not stated: there is no observer table.")
    lines = (
        [f"Others could learn more; epsilon in brackets: {'; '.join(others)}."] if others else []
    )
    if run.summary.get("seeded") and run.summary.get("epsilon"):
        lines = ["The table below shows in brackets what an unseeded run would have promised."]
        return Answer(question=question, headline="Nobody.", lines=lines, tone="no")
    if run.summary.get("epsilon") and not run.privacy.get("target_epsilon", 1.0):
        lines = [f"Epsilon in brackets: {'; '.join(others)}."]
        return Answer(
            question=question,
            headline="No target was set: against each by its own epsilon.",
            lines=lines,
        )
    if not bound or not run.summary.get("epsilon"):
        return Answer(question=question, headline="Nobody.", tone="no")
    text = ", ".join(bound)
    return Answer(question=question, headline=f"{text[0].upper()}{text[1:]}.", lines=lines)


def _worst(epsilon: Mapping[str, float] | None) -> str:
    """The tightest of the accountants' upper bounds."""
    return epsilon_text(min(epsilon.values())) if epsilon else "none"


def answer_good(run: RunResult) -> Answer:
    """How well the final model does."""
    question, summary = "How good is the model?", run.summary
    if "task" in summary:
        headline, lines = worth_text(summary)
        return Answer(question=question, headline=headline, lines=lines)
    rows = dict(merit_rows(summary))
    if summary.get("accuracy") is None:
        why = rows["accuracy"].removeprefix(f"{ABSENT} ").strip("()")
        return Answer(question=question, headline=f"Not known: {why}.")
    lines = [f"Accuracy {rows['accuracy']}."]
    if nothing := rows.get(LEARNT):
        lines.append(f"It has learnt {nothing}.")
    if (mean := summary.get("mean_hospital_accuracy")) is not None:
        lines.append(f"Mean accuracy at the hospitals {share_text(mean)}.")
    lines.append("Measured on the public holdout, whose patients no hospital trained on.")
    merit = summary.get("merit") or {}
    first = "balanced accuracy" if merit.get("uneven") else "accuracy"
    value = (summary.get("metrics") or {}).get(first.replace(" ", "_"), summary["accuracy"])
    return Answer(
        question=question,
        headline=f"{first.capitalize()} {share_text(value)}, AUC {rows['AUC']}.",
        lines=lines,
    )


def answer_cost(run: RunResult) -> Answer:
    """What the run cost in bytes and time."""
    summary, progress = run.summary, run.progress
    seconds = summary.get("seconds") or {}
    up, down = (
        bytes_text(summary.get(f"{way}_bytes_per_hospital_round")) for way in ("uplink", "downlink")
    )
    return Answer(
        question="What did it cost?",
        headline=f"{seconds_text(seconds.get('total'))}, {bytes_text(progress.bytes_sent)} in all.",
        lines=[
            f"A hospital sends {up} and receives {down} per round; the median round takes "
            f"{seconds_text(seconds.get('round_median'))}.",
        ],
    )


def _figures_note(run: RunResult, missing: Sequence[str]) -> str:
    """Say which figures are left out because they would tell of single hospitals' patients."""
    if _config(run, "data.public") is not False or not missing:
        return ""
    return (
        f"Left out, since the data are not declared public: {'; '.join(missing)}. Each depends on "
        "patients in a way that no noise covers."
    )


def _shortened(rows: list[tuple[str, str, str, str, str]]) -> list[tuple[str, str, str, str, str]]:
    """Leave out the middle of a long list of ledgers, and say so."""
    if len(rows) <= MOST_LEDGERS:
        return rows
    rest = rows[MOST_LEDGERS - 1 :]
    numbers = sorted({row[4] for row in rest}, key=_size)
    epsilons = numbers[0] if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    return [
        *rows[: MOST_LEDGERS - 1],
        (
            f"{len(rest)} more hospitals",
            str(sum(int(row[1]) for row in rest)),
            min(row[2] for row in rest),
            max(row[3] for row in rest),
            epsilons,
        ),
    ]


def _size(epsilon: str) -> float:
    """Return an epsilon's size from its text; what is no number is the largest."""
    return float(epsilon.replace(",", "")) if epsilon[:1].isdigit() else math.inf


def _statements(run: RunResult) -> list[Mapping[str, Any]]:
    try:
        return read_statements(str(run.path), None)
    except NoRun:
        return []


def _config(run: RunResult, key: str) -> Any:
    return run.config.get(key, ABSENT)


def _regime_title(run: RunResult) -> str:
    regime = REGIMES.get(str(_config(run, "privacy.regime")))
    return regime.title if regime else "a run"


def _subtitle(run: RunResult) -> str:
    starts = run.of_kind("start")
    began = f"{moment_text(starts[0]['time'])} UTC" if starts else "not begun"
    progress = run.progress
    state = progress.status or "still running"
    message = f": {progress.message}" if progress.message else ""
    return (
        f"Asclepias run report. Began {began}; {state}{message}. "
        f"Round {progress.round} of {progress.rounds}."
    )


def _what(run: RunResult) -> list[tuple[str, str]]:
    private = REGIMES.get(str(_config(run, "privacy.regime")))
    rows = [
        ("data", f"{_config(run, 'data.name')}"),
        ("hospitals", f"{_config(run, 'partition.hospitals')}, split {_split_text(run)}"),
        ("model", f"{_config(run, 'model.name')}"),
        ("regime", f"{_config(run, 'privacy.regime')}: {_regime_title(run)}"),
        ("exchange", f"{_config(run, 'exchange.name')}"),
        ("sealing", f"{_config(run, 'sealing.scheme')}"),
        (
            "rounds",
            f"{_config(run, 'training.rounds')}; a {_unit(run)} takes part in each with chance "
            f"{_config(run, 'training.sampling-rate')}",
        ),
    ]
    if private and private.private:
        clip, sigma = _config(run, "privacy.l2-clip"), run.summary.get("noise_multiplier")
        text = f"gradients clipped to {clip} per {_unit(run)}"
        rows.append(("noise", f"{text}, noise multiplier {sigma:.4g}" if sigma else text))
    return rows


def _setting(value: Any) -> str:
    """Write a value as settings files do, a text without its quotes."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _split_text(run: RunResult) -> str:
    name = _config(run, "partition.name")
    return f"{name} ({_config(run, 'partition.alpha')})" if name == "dirichlet" else str(name)


def _commands(run: RunResult) -> list[str]:
    known = [one["command"] for one in run.provenance.get("commands", [])]
    return known or [f"flwr run . --stream --run-config {shlex.quote(str(run.path))}/config.toml"]


def _repeat_note(run: RunResult) -> str:
    again = f"flower-simulation run {shlex.quote(str(run.path / 'config.toml'))}"
    if run.summary.get("seeded"):
        return f"'{again}' ends in the same model on the same kind of machine. All settings:"
    return f"'{again}' starts the same training with fresh noise. All settings:"
