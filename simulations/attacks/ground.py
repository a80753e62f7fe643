"""What is attacked: a simulated run or a scenario, and never a real hospital's patients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from accounting.vocabulary import EXCHANGES, REGIMES
from clients.contract.groups import NO_EXCHANGE
from clients.contract.settings import ConfigValue, Settings, SettingsError
from clients.data.catalogue import OWN
from clients.data.cohorts import Cohorts
from clients.data.files import data_folder
from clients.models.catalogue import architecture_of, prepare
from simulations.attacks.opened import hospital_of, refusal
from simulations.error_messages import NotStarted
from simulations.preflight import classes_fault
from strategies.run.budget import calibrated_multiplier
from strategies.run.reading import read_settings

if TYPE_CHECKING:
    import torch

    from clients.contract.stages import Listener
    from clients.data.cohort import Cohort
    from clients.data.records import Records

#: Where a simulation keeps its hospitals, inside the run's folder.
SITES = "sites"
#: Targets that private regimes are attacked at, where nothing else is asked for.
EPSILONS = (1.0, 3.0, 10.0)
#: What each training that is made for an attack is told.
QUIET: dict[str, ConfigValue] = {
    "run.log-level": "warning",
    "tracking.wandb": "disabled",
    "audit.enabled": False,
    "run.out": "",
    "run.training-id": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A regime, at a target where it is private.

    Attributes:
        regime: its name.
        epsilon: the target; None where there is no noise.
    """

    regime: str
    epsilon: float | None = None

    @property
    def label(self) -> str:
        """The way in a few words."""
        return self.regime if self.epsilon is None else f"{self.regime}, epsilon {self.epsilon:g}"


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What is attacked, and how.

    Attributes:
        settings: of the run or the scenario.
        path: the run's folder; None for a scenario.
        epsilons: targets of the private regimes.
        regimes: which are attacked.
        seed: of all draws.
        trials: of an attack, as it counts them; 0: as many as it takes by itself.
        listener: told how far it has come.
    """

    settings: Settings
    path: Path | None = None
    epsilons: tuple[float, ...] = EPSILONS
    regimes: tuple[str, ...] = tuple(REGIMES)
    seed: int = 0
    trials: int = 0
    listener: Listener = field(default=lambda stage, done, total: None, repr=False)
    cohorts: Cohorts = field(default_factory=Cohorts, repr=False)

    def __post_init__(self) -> None:
        refuse_real(self.settings, self.path)
        faults = [f"regime {one!r} is none of {', '.join(REGIMES)}." for one in self.regimes
                  if one not in REGIMES]  # fmt: skip
        if not all(0 < one < float("inf") for one in self.epsilons):
            faults.append(f"epsilons = {self.epsilons}; each must be positive and finite.")
        if faults:
            raise SettingsError(faults)

    def ways(self) -> Iterator[Way]:
        """Yield each regime, a private one at each target; what is named twice comes once."""
        for regime in dict.fromkeys(self.regimes):
            for epsilon in dict.fromkeys(self.epsilons) if REGIMES[regime].private else (None,):
                yield Way(regime=regime, epsilon=epsilon)

    def told(self, way: Way, changes: Mapping[str, ConfigValue] | None = None) -> Settings:
        """Return the settings of a training of one way; all else is as it was asked for.

        Pooled data have no exchange of their own. Integers are sealed without encryption: the sums,
        and so the models, are the same.

        Raises:
            SettingsError: the way is not sound with what was asked for.
        """
        config: dict[str, ConfigValue] = {
            **QUIET,
            "run.seed": self.seed,
            "privacy.regime": way.regime,
            "sealing.scheme": "modular",
            "sealing.key-mode": "auto",
            "sealing.committee": "",
            "sealing.silent-holders": -1,
        }
        if way.epsilon is not None:
            config.update({"privacy.target-epsilon": way.epsilon, "privacy.noise-multiplier": 0.0})
        if REGIMES[way.regime].pooled:
            config.update(NO_EXCHANGE)
        return self.settings.with_config({**config, **(changes or {})})

    def noise_multiplier(self, settings: Settings) -> float:
        """Return sigma of a way; 0 where it has no noise."""
        return calibrated_multiplier(settings) if settings.regime.private else 0.0

    @cached_property
    def cohort(self) -> Cohort:
        """The federation's cohort, split as a run splits it.

        Raises:
            NotStarted: the records are not each of one class of several.
        """
        settings = self.told(Way(regime="F"))
        if fault := classes_fault(settings, self.cohorts, "attacks are on models that tell"):
            raise NotStarted(fault)
        return self.cohorts.of(settings)

    @property
    def split_by_chance(self) -> bool:
        """Whether patients who are trained on and those of the holdout differ by chance alone.

        A test part, other data or hospitals' scanners may be told from them without any model, so
        that a bound on membership says nothing of it.
        """
        return self.cohort.origin == "own" and not self.settings.partition.shift

    def prepared(self, records: Records) -> Records:
        """Return records as the model wants them."""
        return prepare(self.settings, self.cohort.info, records, keep=None)

    @property
    def learns_from_records(self) -> bool:
        """Whether the model's inputs are the records themselves, not features of them."""
        return not architecture_of(self.settings.model).features

    @property
    def sums_alone(self) -> bool:
        """Whether nothing but sums of hospitals' updates travels."""
        return EXCHANGES[self.settings.exchange.name].sums_alone

    def require(
        self, attack: str, *, about: str, records: str = "", faults: Sequence[str] = ()
    ) -> None:
        """Refuse settings that an attack cannot say anything of.

        Args:
            attack: its name.
            about: what of a training by sums it is about.
            records: what it does to records, where it needs a model that learns from them.
            faults: whatever else keeps it from being carried out, a sentence each.

        Raises:
            SettingsError: with every fault at once.
        """
        found = list(faults)
        if not self.sums_alone:
            found.append(
                f"exchange.name = {self.settings.exchange.name}: {attack} is about {about}; attack "
                "with --set exchange.name=gradients."
            )
        if records and not self.learns_from_records:
            found.append(
                f"model.name = {self.settings.model.name} learns from fixed features; {attack} "
                f"{records} records: attack with --set model.name=logistic, mlp or cnn."
            )
        if found:
            raise SettingsError(found)

    def model(self) -> dict[str, torch.Tensor] | None:
        """Return the run's released model; None for a scenario, whose model has not been trained.

        Raises:
            NotStarted: the run has released none.
        """
        if self.path is None:
            return None
        file = self.path / "model.safetensors"
        if not file.is_file():
            raise NotStarted(f"{self.path} has released no model; run it to its end first.")
        from safetensors.torch import load

        return dict(load(file.read_bytes()))


def ground_of_run(path: Path) -> Settings:
    """Return a simulated run's settings.

    Raises:
        NotStarted: the run is not a simulation's.
    """
    settings = read_settings(path)
    refuse_real(settings, path)
    return settings


def refuse_real(settings: Settings, path: Path | None) -> None:
    """Refuse whatever is not a simulation over public data or a folder of one's own.

    A simulated run keeps its hospitals in its own folder and counts their patients; in a deployment
    they are elsewhere, and how many patients they have is declared. What names do not tell is found
    out when files are opened (`nobodys_patients`).

    Raises:
        NotStarted: it is a deployment's run, or the records lie in a hospital's folder.
    """
    if path is not None and not (path / SITES).is_dir():
        raise NotStarted(
            f"{path} is no simulated run: it has no {SITES}/, so its hospitals are elsewhere, and "
            "their patients are not attacked. Attack a scenario, or a run of 'flower-simulation'."
        )
    if path is not None and settings.data.patients:
        raise NotStarted(
            f"{path} declares data.patients = {settings.data.patients}, as only runs over real "
            "records have to: those are not attacked, and a simulation counts its patients. Attack "
            "a scenario."
        )
    base, _, own = settings.data.name.partition(":")
    places = [data_folder(settings.data.dir), Path(own) if base in OWN and own else None]
    for place in filter(None, places):
        if home := hospital_of(str(place.expanduser().absolute())):
            raise NotStarted(refusal(place, home))
