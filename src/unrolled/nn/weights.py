"""The weights of a module of torch.nn as they are now: parameters, or what a parametrization or a hook put there."""

from torch import Tensor, nn

Weights = list[list[Tensor]]


def weights_of(module: nn.RNNBase) -> Weights:
    """The weights by layer and direction, in torch's order: weight_ih, weight_hh, bias_ih, bias_hh, weight_hr."""
    own = module._parameters
    return [
        [found if (found := own.get(name)) is not None else getattr(module, name) for name in names]
        for names in module._all_weights
    ]
