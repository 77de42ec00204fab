"""Models are networks for a purpose: tensors in, tensors out. They never see a string."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unrolled.models.language_model import LanguageModel, detached, forgetful

__all__ = ["LanguageModel", "detached", "forgetful"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from unrolled.models import language_model  # it brings torch, which a stored model's step does not need

    return getattr(language_model, name)
