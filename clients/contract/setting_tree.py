"""The tree of settings: groups of values, each sound by itself, and what follows from them.

One group for each table of ``[tool.flwr.app.config]``. Python names are snake_case, the keys that
people and Flower write are dotted kebab-case: ``tree.training.sampling_rate`` is
``training.sampling-rate``. What goes together is checked above, in `clients.contract.combinations`;
how a tree is read and refused is `clients.contract.settings`. Light: every process imports it.

Every number has a lower and an upper bound and every text a length, so that nothing absurd is ever
computed with. Whether a training is bound to one is said as in `clients.contract.setting_group`.
"""

from typing import Literal

from pydantic import Field

from accounting.vocabulary import REGIMES, ExchangeName, Regime, RegimeName, SchemeName
from clients.contract.model_settings import Model
from clients.contract.setting_group import FREE, OWN, Group, since
from clients.contract.task_settings import TaskChoice
from clients.contract.training_settings import MOST_ROUNDS, Training

_MOST_HOSPITALS = 100_000
_MOST_PATIENTS = 1_000_000_000
_LINE, _PATH, _LIST = 256, 4096, 8_000_000
#: Least l2-clip, 2^-63: models are float32, and what is smaller has a square below float32's least
#: normal number, 2^-126, so that norms and steps of that size lose their digits.
LEAST_CLIP = 2.0**-63

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Data(Group):
    """Whose records."""

    name: str = Field(
        default="breast-cancer",
        min_length=1,
        max_length=_PATH,
        json_schema_extra=OWN,
        description="data set",
    )
    dir: str = Field(
        default="",
        max_length=_PATH,
        json_schema_extra=FREE,
        description="folder of its files ('' = $ASCLEPIAS_DATA)",
    )
    public: bool = Field(
        default=False,
        json_schema_extra=OWN,
        description="benchmark data: displays that would leak are shown",
    )
    holdout: float = Field(
        default=0.2, gt=0, lt=1, description="share of patients in the public holdout"
    )
    holdout_from: str = Field(
        default="",
        max_length=_PATH,
        json_schema_extra=since("0.2"),
        description="public data to measure on, named as data.name is ('' = a share of the "
        "patients, 'none' = nothing is measured)",
    )
    image_size: int = Field(
        default=64, ge=8, le=1024, description="pixels per side that picture files are brought to"
    )
    patients: int = Field(
        default=0,
        ge=0,
        le=_MOST_PATIENTS,
        description="declared training patients of all hospitals (0 = simulated)",
    )
    largest_hospital: int = Field(
        default=0,
        ge=0,
        le=_MOST_PATIENTS,
        description="declared patients of the largest hospital (0 = simulated)",
    )


class Partition(Group):
    """How patients are dealt to hospitals."""

    name: str = Field(
        default="dirichlet", min_length=1, max_length=_LINE, description="way of splitting"
    )
    alpha: float = Field(
        default=0.5, gt=0, le=1e6, description="Dirichlet concentration: small = skewed labels"
    )
    hospitals: int = Field(
        default=10, ge=1, le=_MOST_HOSPITALS, description="hospitals expected, K"
    )
    shards: int = Field(
        default=2,
        ge=1,
        le=_MOST_HOSPITALS,
        description="shards, or classes, of a hospital (shards, pathological)",
    )
    shift: float = Field(
        default=0.0, ge=0, le=1e3, description="strength of each hospital's own scanner (0 = none)"
    )
    sites: str = Field(
        default="",
        max_length=_LIST,
        description="the hospitals that may take part, 'lyon,turin' ('' = whoever joins)",
    )

    @property
    def invited(self) -> tuple[str, ...]:
        """The hospitals that may take part, sorted; empty where none is named."""
        return tuple(sorted(one.strip() for one in self.sites.split(",") if one.strip()))


class Exchange(Group):
    """What travels between hospitals and server."""

    name: ExchangeName = Field(default="gradients", description="what is shared")
    local_steps: int = Field(
        default=1, ge=1, le=10_000, description="steps at a hospital before it shares"
    )
    optimizer: Literal[
        "sgd", "adagrad", "adam", "rmsprop", "yogi", "fedadagrad", "fedadam", "fedyogi"
    ] = Field(default="sgd", description="optimizer that acts on the opened sum")
    server_rate: float = Field(
        default=0.1,
        gt=0,
        le=1e6,
        json_schema_extra=since("0.2"),
        description="rate of the server's step, eta (fedadagrad, fedadam, fedyogi)",
    )
    second_decay: float = Field(
        default=0.99,
        ge=0,
        lt=1,
        json_schema_extra=since("0.2"),
        description="weight of the past in its second moment, beta_2 (fedadam, fedyogi)",
    )
    adaptivity: float = Field(
        default=1e-3,
        gt=0,
        le=1e6,
        json_schema_extra=since("0.2"),
        description="what is added to its root, tau (fedadagrad, fedadam, fedyogi)",
    )
    group_size: int = Field(
        default=0,
        ge=0,
        le=_MOST_HOSPITALS,
        json_schema_extra=since("0.2"),
        description="hospitals whose sum is opened apart from others' (0 = one sum of all; 1 = "
        "single updates, where nothing is sealed)",
    )
    robust: Literal["mean", "median", "trimmed-mean", "krum", "bulyan"] = Field(
        default="mean",
        json_schema_extra=since("0.2"),
        description="how groups' sums are combined, so that those of liars do not count",
    )
    liars: int = Field(
        default=1,
        ge=1,
        le=_MOST_HOSPITALS,
        json_schema_extra=since("0.2"),
        description="groups that may lie (trimmed-mean, krum, bulyan take out as many)",
    )
    loop: Literal["ours", "app"] = Field(
        default="ours",
        json_schema_extra=since("0.2"),
        description="who trains at a hospital: 'app' is an app's own loop, which no noise covers",
    )
    proximal: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="pull of local steps to the shared model (weights; FedProx)",
    )
    order: Literal["fixed", "random"] = Field(
        default="fixed", description="order of the hospitals in a cycle (cyclic, single)"
    )
    cycles: int = Field(
        default=1,
        ge=1,
        le=MOST_ROUNDS,
        description="visits to each hospital; they share the rounds (cyclic)",
    )
    absent: Literal["skip", "wait"] = Field(
        default="skip", description="what happens at the turn of a hospital that is gone"
    )
    vote: Literal["probabilities", "majority"] = Field(
        default="probabilities", description="how an ensemble's models decide together"
    )
    cut: str = Field(
        default="",
        max_length=_LINE,
        description="last layer at the hospital (layers; '' = the first that learns)",
    )
    labels: Literal["home", "server"] = Field(
        default="home", description="where head and loss are (layers)"
    )


class Privacy(Group):
    """What is promised to patients."""

    regime: RegimeName = Field(default="FSCDP", description="arrangement of data, noise and trust")
    target_epsilon: float = Field(
        default=1.0,
        ge=0,
        le=1e6,
        description="epsilon to stay within (0 = not set: use noise-multiplier)",
    )
    noise_multiplier: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="sigma, noise in units of l2-clip (0 = from target-epsilon)",
    )
    delta: float = Field(default=1e-4, gt=0, lt=1, description="delta")
    l2_clip: float = Field(
        default=0.5,
        ge=LEAST_CLIP,
        le=1e6,
        description="bound on a patient's gradient norm, C (layers: on each message's too)",
    )
    dropouts: int = Field(
        default=0, ge=0, le=_MOST_HOSPITALS, description="missing hospitals tolerated in a round"
    )
    spare_attempts: int = Field(
        default=-1,
        ge=-1,
        le=MOST_ROUNDS,
        description="attempts beyond one for each round (-1: none with a target, else two for "
        "each)",
        json_schema_extra=since("0.2"),
    )
    colluders: int = Field(
        default=0, ge=0, le=_MOST_HOSPITALS, description="colluding hospitals tolerated"
    )
    input_laplace: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="scale of noise on every input value, in units of its range (0 = none)",
    )
    accountant: Literal["rdp", "prv"] = Field(default="prv", description="accountant of the claims")


class Sealing(Group):
    """How sums are kept from the server."""

    scheme: SchemeName = Field(default="bfv", description="sealing scheme")
    key_mode: Literal["auto", "public", "symmetric"] = Field(
        default="auto", description="kind of BFV key (auto = the smaller messages)"
    )
    committee: str = Field(
        default="",
        max_length=_LIST,
        json_schema_extra=since("0.2"),
        description="one-time keys with dropouts: who holds shares, at most 20, 'lyon,turin' "
        "('' = all hospitals; of more than 20, drawn in the ceremony)",
    )
    silent_holders: int = Field(
        default=-1,
        ge=-1,
        le=20,
        json_schema_extra=since("0.2"),
        description="holders of shares that may not answer (-1 = as many as the dropouts)",
    )

    @property
    def holders(self) -> tuple[str, ...]:
        """Who holds shares, sorted; empty where all hospitals do."""
        return tuple(sorted(one.strip() for one in self.committee.split(",") if one.strip()))


class Audit(Group):
    """What is done to break the promise before somebody else does."""

    enabled: bool = Field(
        default=True,
        json_schema_extra=FREE,
        description="attack with made-up patients at the end of a simulated run",
    )
    canaries: int = Field(
        default=0,
        ge=0,
        le=10_000_000,
        json_schema_extra=FREE,
        description="made-up patients of one hospital (0 = by rounds and hospitals)",
    )


class Run(Group):
    """How this run is carried out."""

    seed: int = Field(
        default=-1, ge=-1, lt=2**63, description="seed (-1 = unseeded, the private way)"
    )
    threads: int = Field(
        default=1, ge=1, le=1024, json_schema_extra=FREE, description="torch threads per process"
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$",
        max_length=8,
        json_schema_extra=FREE,
        description="where gradients are computed: auto (CUDA if there), cpu, cuda or cuda:N",
    )
    together: Literal["auto", "always", "never"] = Field(
        default="auto",
        json_schema_extra=FREE,
        description="simulated hospitals of a process share passes of the model (auto = on CUDA)",
    )
    out: str = Field(
        default="",
        max_length=_PATH,
        json_schema_extra=FREE,
        description="the run folder ('' = chosen by the command)",
    )
    scenario: str = Field(
        default="default",
        pattern=_NAME,
        max_length=_LINE,
        json_schema_extra=FREE,
        description="name that the run carries",
    )
    attempts: int = Field(
        default=3,
        ge=1,
        le=1000,
        json_schema_extra=FREE,
        description="attempts at a round before the run stops",
    )
    timeout: float = Field(
        default=600.0,
        gt=0,
        le=1e7,
        json_schema_extra=FREE,
        description="seconds to wait for a hospital's reply",
    )
    training_id: str = Field(
        default="",
        pattern=f"^$|{_NAME}",
        max_length=64,
        json_schema_extra=FREE,
        description="training id to resume ('' = a new training)",
    )
    snapshot_every: int = Field(
        default=20, ge=1, le=MOST_ROUNDS, description="rounds between snapshots for late hospitals"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", json_schema_extra=FREE, description="least level that is logged"
    )


class Tracking(Group):
    """Where else progress is shown."""

    wandb: Literal["offline", "online", "disabled"] = Field(
        default="offline",
        json_schema_extra=FREE,
        description="Weights & Biases (only online touches the network)",
    )


class SettingTree(Group):
    """Every group; single values are checked, combinations are not."""

    data: Data = Data()
    partition: Partition = Partition()
    model: Model = Model()
    task: TaskChoice = TaskChoice()
    exchange: Exchange = Exchange()
    training: Training = Training()
    privacy: Privacy = Privacy()
    sealing: Sealing = Sealing()
    audit: Audit = Audit()
    run: Run = Run()
    tracking: Tracking = Tracking()

    @property
    def regime(self) -> Regime:
        """What the regime's name stands for."""
        return REGIMES[self.privacy.regime]

    @property
    def seeded(self) -> bool:
        """Whether every random stream derives from ``run.seed``: repeatable, no guarantee."""
        return self.run.seed >= 0

    @property
    def public_seed(self) -> int:
        """The seed of what is public anyway: splits and initial weights."""
        return max(self.run.seed, 0)
