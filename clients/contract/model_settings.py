"""The settings of a model: which it is, what it starts from, and what of it is trained."""

from pydantic import Field

from clients.contract.setting_group import Group, since

#: What the name of a model begins with that learns from the features of a pretrained net.
PRETRAINED = "pretrained:"
#: Name of the model that an app brings, and of the task that it is for.
OWN = "own"


class Model(Group):
    """What is trained."""

    name: str = Field(default="logistic", min_length=1, max_length=256, description="model")
    weights: str = Field(
        default="", max_length=4096, description="safetensors file of starting weights ('' = none)"
    )
    weights_digest: str = Field(
        default="",
        max_length=64,
        pattern=r"^$|^[0-9a-f]{64}$",
        description="SHA-256 of that file in hex digits ('' = any file)",
    )
    freeze: bool = Field(default=False, description="train the last layer only")
    hidden: int = Field(
        default=0,
        ge=0,
        le=4096,
        json_schema_extra=since("0.2"),
        description="units of a hidden layer on a pretrained net's features (0 = none)",
    )
    stages: int = Field(
        default=0,
        ge=0,
        le=64,
        json_schema_extra=since("0.2"),
        description="first stages of a pretrained net that are used (0 = all)",
    )
    tuned_stages: int = Field(
        default=0,
        ge=0,
        le=64,
        json_schema_extra=since("0.2"),
        description="last ones of these that are trained too (0 = none)",
    )
    side: int = Field(
        default=0,
        ge=0,
        le=1024,
        json_schema_extra=since("0.2"),
        description="pixels per side that a pretrained net is shown (0 = 224)",
    )
