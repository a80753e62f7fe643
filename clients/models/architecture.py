"""What a model is made of: its layers, and the fixed features that they learn from, if any."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clients.data.records import Records
from clients.models.errors import ModelError

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
    """

    title: str
    builder: str | Callable[[DatasetInfo], nn.Module]
    kinds: tuple[str, ...] = ()
    features: str | Callable[[DatasetInfo], FeatureMap] = ""

    def build(self, info: DatasetInfo) -> nn.Module:
        """Return a new module, initialised from torch's global generator."""
        return _called(self.builder, info)  # type: ignore[no-any-return]

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
