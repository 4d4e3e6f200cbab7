"""The gradient of the loss at the codes: |dL/dz| over training is plotted in REG's Figure 1 (methods.md 7.9).

B batch, C H W image, D latent.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trainables.method import Loss, Method


def gradient_at_codes(method: Method, x: Tensor) -> dict[str, float]:
    """Returns the mean of |dL_i/dz_i| over images x (B, C, H, W), and the norm of dL/dz as one tensor (B, D).

    L_i is the loss of one image, summed as in training, and z_i the input of its decoder. The loss is that of the
    first player of the last stage that trains on images. Paths that bypass z, such as a KL in closed form, are
    excluded. Returns {} if the loss decodes no code that requires gradients.
    """
    loss, decoder = _loss_of(method), getattr(method, "decoder", None)
    if loss is None or not isinstance(decoder, nn.Module):
        return {}
    with torch.enable_grad(), _inputs_of(decoder) as seen:
        total = loss(x).total
        if not seen or not seen[0].requires_grad:
            return {}
        (gradient,) = torch.autograd.grad(total, seen[0], allow_unused=True)
    if gradient is None:
        return {}
    own = len(x) * gradient[: len(x)].double().flatten(1)  # (B, D); a loss is the mean over its images
    return {"gradient_at_codes": own.norm(dim=1).mean().item(), "gradient_at_codes_batch": own.norm().item()}


def _loss_of(method: Method) -> Callable[[Tensor], Loss] | None:
    losses = [s.players[0].loss for s in method.stages(100) if s.inputs is None and s.players]
    return losses[-1] if losses else None


@contextmanager
def _inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the first argument of each call of the module."""
    seen: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    try:
        yield seen
    finally:
        hook.remove()
