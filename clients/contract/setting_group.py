"""A group of settings, and what each setting says of itself: whether a training is bound to it.

Python names are snake_case, the keys that people write are kebab-case. A setting belongs to the
*terms* of a training unless it says otherwise, so that one that somebody forgets to think about
cannot be changed in mid training.
"""

from typing import Literal, cast, get_args

from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo


def kebab(name: str) -> str:
    """Return a Python name as people write the key."""
    return name.replace("_", "-")


class Group(BaseModel):
    """One table of the settings."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=kebab,
        populate_by_name=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


Binds = Literal["terms", "own", "no"]
"""What of a training a setting belongs to: the terms that all hospitals agree on, what a hospital
says for itself, or neither."""
_BINDS = get_args(Binds)

OWN: JsonDict = {"binds": "own"}
FREE: JsonDict = {"binds": "no"}


def since(version: str) -> JsonDict:
    """Mark a setting that a later version added: at its default it does not enter the terms."""
    return {"since": version}


def binds_of(field: FieldInfo) -> Binds:
    """Return what a setting belongs to; the terms where its field does not say.

    Raises:
        ValueError: the field says something else.
    """
    extra = field.json_schema_extra
    said = extra.get("binds", "terms") if isinstance(extra, dict) else "terms"
    if said not in _BINDS:
        raise ValueError(f"binds is {said!r}, expected one of {', '.join(_BINDS)}")
    return cast("Binds", said)


def since_of(field: FieldInfo) -> str:
    """Return the version that added a setting; "" for one that was always there."""
    extra = field.json_schema_extra
    return str(extra.get("since", "")) if isinstance(extra, dict) else ""
