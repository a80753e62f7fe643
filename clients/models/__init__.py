"""Models that can be trained under noise."""

from clients.models.catalogue import (
    MODELS,
    backbone_of,
    build_model,
    imports,
    input_shape,
    is_own_code,
    prepare,
    prepare_public,
)
from clients.models.errors import ModelError
from clients.models.kept_features import forget_others, user_cache

__all__ = [
    "MODELS",
    "ModelError",
    "backbone_of",
    "build_model",
    "forget_others",
    "imports",
    "input_shape",
    "is_own_code",
    "prepare",
    "prepare_public",
    "user_cache",
]
