"""Models that can be trained under noise."""

from clients.models.catalogue import MODELS, build_model, prepare, prepare_public
from clients.models.errors import ModelError

__all__ = ["MODELS", "ModelError", "build_model", "prepare", "prepare_public"]
