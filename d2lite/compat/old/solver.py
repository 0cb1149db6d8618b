"""Private helpers of detectron2's solver."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from d2lite.config import CfgNode
from d2lite.solver.build import _gradient_clipper
from d2lite.solver.lr_scheduler import _warmup_factor


def _get_warmup_factor_at_iter(
    method: str, iter: int, warmup_iters: int, warmup_factor: float
) -> float:
    """Return the factor of the learning rate in a warm-up.

    Args:
        method: "constant" or "linear".
        iter: iteration, from 0; the factor is 1 from `warmup_iters` on.
        warmup_factor: the factor at iteration 0.
    Raises:
        ValueError: another method, within the warm-up.
    """
    if iter >= warmup_iters:
        return 1.0
    return _warmup_factor(method, iter, warmup_iters, warmup_factor)


def _create_gradient_clipper(cfg: CfgNode) -> Callable[[Any], None]:
    """Return a function that clips the gradient of one parameter in place.

    Args:
        cfg: SOLVER.CLIP_GRADIENTS of a config.
    """
    clip = _gradient_clipper(cfg)

    def clip_one(parameter: nn.Parameter | Iterable[nn.Parameter]) -> None:
        one = isinstance(parameter, nn.Parameter)
        clip([parameter] if one else list(parameter))

    return clip_one


def _generate_optimizer_class_with_gradient_clipping(
    optimizer: type[Optimizer],
    *,
    per_param_clipper: Callable[[nn.Parameter], Any] | None = None,
    global_clipper: Callable[[list[nn.Parameter]], Any] | None = None,
) -> type[Optimizer]:
    """Return a class like `optimizer` that clips the gradients before each step.

    Args:
        per_param_clipper: called with each parameter.
        global_clipper: called once with the parameters of all groups; exclusive with the other.
    """
    assert per_param_clipper is None or global_clipper is None, (
        "Not allowed to use both per-parameter clipping and global clipping"
    )

    def step(self: Optimizer, closure: Callable | None = None) -> Any:
        params = list(itertools.chain(*(group["params"] for group in self.param_groups)))
        if per_param_clipper is not None:
            for param in params:
                per_param_clipper(param)
        else:
            global_clipper(params)
        return super(type(self), self).step(closure)

    return type(optimizer.__name__ + "WithGradientClip", (optimizer,), {"step": step})
