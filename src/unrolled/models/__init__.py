"""Models are networks for a purpose: tensors in, tensors out. They never see a string."""

from unrolled.models.language_model import LanguageModel, detached

__all__ = ["LanguageModel", "detached"]
