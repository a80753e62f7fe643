"""Attacks that docs/attacks.md shows: what each is carried out on, and its table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An attack on a scenario.

    Attributes:
        attack: its name.
        scenario: its name.
        assignments: settings that differ.
        options: further words of the command line.
    """

    attack: str
    scenario: str
    assignments: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """The words after ``flower-simulation``."""
        changes = [word for one in self.assignments for word in ("--set", one)]
        return ["attack", self.attack, self.scenario, *changes, *self.options]


#: What is attacked, by the name of the table on the page.
CASES: dict[str, Case] = {
    "attack-inversion-digits": Case(
        attack="gradient-inversion",
        scenario="default",
        assignments=("data.name=digits", "model.name=mlp"),
    ),
    "attack-inversion-xray": Case(attack="gradient-inversion", scenario="chest-xray-cnn"),
    "attack-membership": Case(
        attack="membership",
        scenario="default",
        assignments=("data.name=digits", "model.name=mlp", "partition.hospitals=5"),
        options=("--epsilons", "1,10"),
    ),
    "attack-membership-rounds": Case(
        attack="membership-rounds",
        scenario="default",
        assignments=(
            "data.name=digits",
            "model.name=mlp",
            "partition.hospitals=5",
            "training.rounds=12",
        ),
        options=("--trials", "2"),
    ),
    "attack-property": Case(attack="property-inference", scenario="default"),
    "attack-model": Case(
        attack="model-inversion",
        scenario="default",
        assignments=("data.name=digits", "partition.hospitals=5"),
    ),
    "attack-visual-xray": Case(attack="visual-privacy", scenario="chest-xray-cnn"),
    "attack-linkage": Case(
        attack="linkage", scenario="heart-disease", options=("--regimes", "FSCDP")
    ),
    "attack-adversarial": Case(
        attack="adversarial",
        scenario="default",
        assignments=("data.name=digits", "model.name=mlp", "partition.hospitals=5"),
    ),
    "attack-poisoning": Case(
        attack="poisoning",
        scenario="default",
        options=("--epsilons", "1,10", "--regimes", "C,F,FPDP,FSCDP", "--trials", "2"),
    ),
}

#: The table of papers' results.
PUBLISHED = "attack-published"
Rows = Callable[[list[str], list[list[str]]], str]


def attack_table(name: str, read: Callable[[str], Any], rows: Rows) -> str:
    """Return the table of a case, what it was of, and the command it came from.

    Args:
        name: of the case; `PUBLISHED` is papers' results beside those of cases.
        read: returns what a file of ``docs/measured/`` holds.
        rows: makes a table.
    """
    from published_attacks import published_table

    from simulations.pages.attacks import attack_columns, attack_rows

    if name == PUBLISHED:
        sources = ("published_attacks.json", "learning.json", "attacks.json")
        return published_table(*(read(one) for one in sources), rows)
    found = read("attacks.json")[name]
    head = [title.rstrip("#") for title in attack_columns(found)]
    said = (
        f"{found['control']['text']}. Attacked: {found['facts']}; {found['seconds']:.0f} s on a "
        f"shared machine. `{found['command']}`.\n"
    )
    return rows(head, attack_rows(found)) + f"\nControl: {said}"
