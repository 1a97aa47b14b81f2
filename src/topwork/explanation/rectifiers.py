"""The rules of guided backpropagation and of the deconvnet at rectifiers, ReLU and ReLU6 alike.

They are put in place by intercepting the two functions that an ONNX graph's Relu and Clip call, for the length of a
block and in the calling thread only: nothing is hooked or exchanged, so nothing can be left behind.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class RectifierRule(TorchFunctionMode):
    """While it is active, gradients pass ReLU and ReLU6 by another rule.

    ``guided`` (Springenberg et al. 2014): only positive gradients, and only where the rectifier let its input through.
    ``deconvnet`` (Zeiler and Fergus 2013): only positive gradients, wherever they come. What comes out of the
    rectifiers does not change. ``met`` counts them: where it stays 0 the rule changed nothing.

    >>> x = torch.tensor([-1.0, 1.0, 7.0], requires_grad=True)
    >>> with RectifierRule("guided") as rule:
    ...     y = functional.hardtanh(x, 0, 6)
    >>> torch.autograd.grad(y, x, torch.tensor([1.0, 1.0, 1.0]))[0].tolist(), rule.met
    ([0.0, 1.0, 0.0], 1)
    """

    def __init__(self, rule: str) -> None:
        super().__init__()
        self._guided = {"guided": True, "deconvnet": False}[rule]
        self.met = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        bounds = _bounds(func, kwargs)
        if bounds is None:
            return func(*args, **kwargs)
        self.met += 1
        return _Rectifier.apply(args[0], *bounds, self._guided)


def _bounds(func: Any, kwargs: Any) -> tuple[float, float] | None:
    """What a call cuts off below and above, if it is that of a rectifier."""
    if func is torch.relu:
        return 0.0, float("inf")
    if func is functional.hardtanh and kwargs["min_val"] == 0:
        return 0.0, float(kwargs["max_val"])
    return None


class _Rectifier(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float, guided: bool) -> Tensor:
        ctx.save_for_backward((x > low) & (x < high) if guided else torch.ones_like(x, dtype=torch.bool))
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override, unused-ignore]
        [passed] = ctx.saved_tensors
        return gradient.clamp(min=0) * passed, None, None, None
