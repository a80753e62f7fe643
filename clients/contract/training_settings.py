"""The settings of how a model learns: how long, how fast, and what it makes of uneven classes."""

from typing import Literal

from pydantic import Field

from clients.contract.setting_group import Group, since

MOST_ROUNDS = 1_000_000
#: What `training.class-shares` says where they are learnt with the model.
LEARNED = "learned"


class Training(Group):
    """How long and how fast."""

    rounds: int = Field(default=60, ge=1, le=MOST_ROUNDS, description="rounds, T")
    sampling_rate: float = Field(
        default=0.2, ge=1e-9, le=1, description="chance of each patient in each round, q"
    )
    learning_rate: float = Field(
        default=0.3,
        gt=0,
        le=1e6,
        description="step size ('auto' on a command line: by public sizes)",
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum of sgd")
    release_every: int = Field(
        default=5, ge=1, le=MOST_ROUNDS, description="rounds between released models"
    )
    averaging: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="weight of the past in the average that is released (0 = the last model)",
    )
    augmentations: int = Field(
        default=0,
        ge=0,
        le=64,
        description="altered copies of a picture, averaged before the clip (0 = as it is)",
    )
    adversarial: float = Field(
        default=0.0,
        ge=0,
        le=1,
        json_schema_extra=since("0.2"),
        description="how far values are moved against the model before its gradient is taken, in "
        "widths of their range (0 = not at all)",
    )
    class_shares: str = Field(
        default="",
        pattern=rf"^$|^{LEARNED}$|^[0-9.eE+-]+(,[0-9.eE+-]+)+$",
        max_length=4096,
        description="shares of the classes, to learn as if even: '0.26,0.74' (public), 'learned' "
        "(from the sums, at no further cost), '' (none)",
    )

    balance: Literal["loss", "clip"] = Field(
        default="loss",
        json_schema_extra=since("0.2"),
        description="how class-shares even classes out: 'loss' moves logits by them, 'clip' lets "
        "patients of common classes weigh less",
    )

    @property
    def learns_shares(self) -> bool:
        """Whether the shares of the classes are learnt with the model."""
        return self.class_shares == LEARNED

    @property
    def shares(self) -> tuple[float, ...]:
        """The public shares of the classes as numbers; empty where none are given."""
        if self.learns_shares:
            return ()
        return tuple(float(one) for one in self.class_shares.split(",") if one)
