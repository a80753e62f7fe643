"""Models that can be trained under noise."""

from clients.models.catalogue import MODELS, build_model, input_shape, prepare, prepare_public
from clients.models.errors import ModelError

__all__ = ["MODELS", "ModelError", "build_model", "input_shape", "prepare", "prepare_public"]
