"""The table of attacks: a name, what it tries, and where it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clients.contract.setting_faults import nearest
from clients.contract.settings import SettingsError

if TYPE_CHECKING:
    from simulations.attacks.ground import Ground
    from simulations.attacks.result import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A row of the table.

    Attributes:
        title: what it tries, a line for people.
        source: who described it.
        carried_out_by: "module:function", imported only when it is asked for.
        trials: of what ``--trials`` says how many; "" where nothing is tried more than once.
        own_trials: how many, unless they are asked for.
    """

    title: str
    source: str
    carried_out_by: str
    trials: str = ""
    own_trials: int = 0

    def carry_out(self, ground: Ground) -> Result:
        """Attack, and return what was found.

        Raises:
            SettingsError: trials are asked for of an attack that has none, or it does not apply.
            NotStarted: a file of a real hospital's was opened.
        """
        if ground.trials and not self.trials:
            raise SettingsError(
                [
                    f"--trials {ground.trials}: nothing of this attack is tried more than once; "
                    "leave --trials out."
                ]
            )
        from clients.models.architecture import load_function
        from simulations.attacks.opened import nobodys_patients

        found: Callable[[Ground], Result] = load_function(self.carried_out_by)
        with nobodys_patients():
            return found(ground)


ATTACKS: dict[str, Attack] = {
    "gradient-inversion": Attack(
        title="records that come back from a single update",
        source="Zhu et al. 2019; Geiping et al. 2020; Hayes et al. 2023",
        carried_out_by="simulations.attacks.gradient_inversion:attack",
        trials="picks a row",
        own_trials=200,
    ),
    "membership": Attack(
        title="whether a patient was trained on, told from the final model",
        source="Yeom et al. 2018; Nasr et al. 2019; Carlini et al. 2022",
        carried_out_by="simulations.attacks.membership:attack",
        trials="models a row",
        own_trials=8,
    ),
    "membership-rounds": Attack(
        title="whether a patient was trained on, told from all that a hospital sees",
        source="Nasr et al. 2019",
        carried_out_by="simulations.attacks.membership_rounds:attack",
        trials="trainings a row",
        own_trials=4,
    ),
    "poisoning": Attack(
        title="what hospitals that lie do to the model",
        source="Biggio et al. 2012; Gu et al. 2017; Bagdasaryan et al. 2020; Ma et al. 2019",
        carried_out_by="simulations.attacks.poisoning:attack",
        trials="seeds a cell",
        own_trials=1,
    ),
    "property-inference": Attack(
        title="how common a class is at a hospital, from one round",
        source="Ganju et al. 2018; Melis et al. 2019",
        carried_out_by="simulations.attacks.property_inference:attack",
        trials="games a row",
        own_trials=200,
    ),
    "model-inversion": Attack(
        title="what a final model thinks of when it thinks of a class",
        source="Fredrikson et al. 2015",
        carried_out_by="simulations.attacks.model_inversion:attack",
    ),
    "visual-privacy": Attack(
        title="what a denoiser gets back of noised pictures",
        source="Singh et al. 2020",
        carried_out_by="simulations.attacks.visual_privacy:attack",
        trials="picks a row",
        own_trials=200,
    ),
    "linkage": Attack(
        title="whose record is whose, in a table without names",
        source="Sweeney 2000; Narayanan and Shmatikov 2008",
        carried_out_by="simulations.attacks.linkage:attack",
    ),
    "adversarial": Attack(
        title="records changed by little until a model errs",
        source="Goodfellow et al. 2015; Madry et al. 2018",
        carried_out_by="simulations.attacks.adversarial:attack",
    ),
}


def find_attack(name: str) -> Attack:
    """Return an attack by its name.

    Raises:
        SettingsError: there is none; the known ones are listed.
    """
    if name in ATTACKS:
        return ATTACKS[name]
    close = nearest(name, list(ATTACKS))
    hint = f"did you mean {close!r}? " if close else ""
    raise SettingsError([f"there is no attack {name!r}; {hint}Known: {', '.join(ATTACKS)}."])
