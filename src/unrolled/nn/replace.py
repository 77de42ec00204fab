"""Changing the class of modules inside an existing model in place, and nothing else about them."""

from collections.abc import Mapping

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

Class = type[nn.Module]


def replace_classes(model: nn.Module, classes: Mapping[Class, Class]) -> None:
    """Give every module in `model`, itself included, whose class is a key of `classes` the class that stands there.

    A class that somebody derived from a key is left alone: what it adds or changes is not known here.
    """
    for module in model.modules():
        found = _replacement(module, classes)
        if found is not None:
            module.__class__ = found


def _replacement(module: nn.Module, classes: Mapping[Class, Class]) -> Class | None:
    own = type(module)
    if is_parametrized(module) and own.__bases__[0] in classes:
        # A parametrized module has a class made for it, shared with its copies: it gets one like it, on another base.
        made = {name: value for name, value in vars(own).items() if name not in ("__dict__", "__weakref__")}
        return type(own.__name__, (classes[own.__bases__[0]],), made)
    return classes.get(own)
