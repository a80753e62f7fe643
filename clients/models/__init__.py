"""Models that can be trained under noise."""

from clients.models.catalogue import MODELS, build_model, input_shape, prepare, prepare_public
from clients.models.errors import ModelError
from clients.models.kept_features import user_cache

__all__ = [
    "MODELS",
    "ModelError",
    "build_model",
    "input_shape",
    "prepare",
    "prepare_public",
    "user_cache",
]
