"""Small models with random weights, large enough for the text before to matter, and the decoders that run them."""

import string

import torch

from unrolled import LanguageModel, TextModel
from unrolled.artifact import StoredModel
from unrolled.engine.native.decoder import NativeDecoder
from unrolled.engine.numpy_decoder import NumpyDecoder
from unrolled.engine.step_parts import StepParts
from unrolled.text import character_tokenizer

KINDS = {"numpy": NumpyDecoder, "native": NativeDecoder}


def made(program, hidden, layers=1, vocabulary=None, tokenizer=None, scale=2.0, **sizes):
    """A model whose weights are `scale` times the usual."""
    if vocabulary is not None:
        tokenizer = character_tokenizer("".join(map(chr, range(0x4E00, 0x4E00 + vocabulary))), vocabulary)
    tokenizer = tokenizer or character_tokenizer(string.ascii_letters + " \n.")
    torch.manual_seed(0)
    model = LanguageModel(program, tokenizer.vocabulary_size, 12, hidden, layers, **sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return TextModel(model, tokenizer)


def parts_of(text_model):
    stored = StoredModel.of(text_model)
    embedding, parameters = stored.step.values(stored.weights)
    return StepParts(stored.step.program, stored.step.sizes, parameters, embedding)
