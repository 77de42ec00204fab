"""The model file: `load` and `save` it with torch as a `TextModel`, or `read` it without torch as a `StoredModel`."""

from typing import TYPE_CHECKING, Any

from unrolled.artifact.stored import FORMAT, PRECISIONS, StoredModel, read

if TYPE_CHECKING:
    from unrolled.artifact.text_model import TextModel, load, save

__all__ = ["FORMAT", "PRECISIONS", "StoredModel", "TextModel", "load", "read", "save"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from unrolled.artifact import text_model  # it brings torch

    return getattr(text_model, name)
