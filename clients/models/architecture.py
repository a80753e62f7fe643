"""What a model is made of: its layers, and the fixed features that they learn from, if any."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clients.data.records import Records
from clients.models.errors import ModelError
from clients.tasks.catalogue import linked
from clients.tasks.question import SEGMENTATION

if TYPE_CHECKING:
    from torch import nn

    from clients.data.records import DatasetInfo
    from clients.models.kept_features import FeatureMap, Keep


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A model: a row of the table, one of the user's own, or what is put on a pretrained net.

    Attributes:
        title: a line for people.
        builder: a function of a DatasetInfo, or "module:function", imported only when asked for.
        kinds: kinds of data set it accepts; empty for any.
        features: likewise, returning the fixed features that it learns from; "" for none.
        dense: whether it says something of each pixel; None: nobody knows before it is run.
    """

    title: str
    builder: str | Callable[[DatasetInfo], nn.Module]
    kinds: tuple[str, ...] = ()
    features: str | Callable[[DatasetInfo], FeatureMap] = ""
    dense: bool | None = False

    def build(self, info: DatasetInfo) -> nn.Module:
        """Return a new module, initialised from torch's global generator.

        Raises:
            ModelError: it says one thing of a picture where each pixel is asked for, or the other
                way round.
        """
        made: nn.Module = _called(self.builder, info)
        if info.own is not None:
            return made
        of_pixels = info.task == SEGMENTATION
        if self.dense is not None and self.dense != of_pixels:
            raise ModelError(
                f"{self.title}: it says {'a value of each pixel' if self.dense else 'one thing'} "
                f"of a record; {info.name} asks {'of each pixel' if of_pixels else 'of the whole'}"
                f"{': set model.name to unet' if of_pixels else ''}",
                code="wrong-kind",
            )
        return linked(info.question, made)

    def feature_map(self, info: DatasetInfo) -> FeatureMap | None:
        """Return the fixed features that it learns from; None where it learns from records."""
        return _called(self.features, info) if self.features else None

    def prepared(self, info: DatasetInfo, records: Records, keep: Keep | None) -> Records:
        """Return records as the model wants them; `catalogue.prepare` says how."""
        made = self.feature_map(info)
        if made is None:
            return records
        from clients.models.kept_features import with_features

        return with_features(records, made, keep)

    def input_shape(self, info: DatasetInfo) -> tuple[int, ...]:
        """Return the shape of one record as the model gets it."""
        made = self.feature_map(info)
        return info.shape if made is None else made.shape


def _called(function: str | Callable[[DatasetInfo], Any], info: DatasetInfo) -> Any:
    return (load_function(function) if isinstance(function, str) else function)(info)


def load_function(path: str) -> Callable[..., Any]:
    """Return the function at "package.module:function"."""
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(f"{path}: cannot be imported ({error})", code="unknown-model") from error
    if not callable(found):
        raise ModelError(f"{path} is no function", code="unknown-model")
    return found  # type: ignore[no-any-return]
