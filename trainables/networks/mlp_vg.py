"""The fully connected networks of the VG paper, "mlp_vg" (methods.md 5.0): one hidden layer of d^2 units, at most
10,000, for d latents; "mlp_vg_400" always has 400. ReLU; the critic has 256 units.

The kind does not include BatchNorm: `with_batch_norm` adds it to any such network.
"""

import re

from torch import nn

from trainables.networks import mlp

KINDS = "mlp_vg or mlp_vg_HIDDEN, e.g. mlp_vg_400"
MOST_HIDDEN = 10_000  # d = 500 would need 250,000 units and 0.8 G weights
CRITIC_HIDDEN = 256


def accepts(kind: str) -> bool:
    return re.fullmatch(r"mlp_vg(_[1-9]\d*)?", kind) is not None


def hidden(kind: str, latent: int) -> int:
    """Returns the number of hidden units for this number of latents."""
    given = kind.removeprefix("mlp_vg").removeprefix("_")
    return int(given) if given else min(latent**2, MOST_HIDDEN)


def encoder(shape: tuple[int, ...], kind: str, out: int) -> nn.Module:
    """The head has 2d outputs, so d is half of `out`, even if the encoder returns no log-variances."""
    return mlp.encoder(shape, f"mlp_{hidden(kind, max(1, out // 2))}", out)


def decoder(shape: tuple[int, ...], kind: str, latent: int) -> nn.Module:
    return mlp.decoder(shape, f"mlp_{hidden(kind, latent)}", latent)


def critic(shape: tuple[int, ...], kind: str, out: int) -> nn.Module:
    return mlp.encoder(shape, f"mlp_{CRITIC_HIDDEN}", out)


def with_batch_norm(network: nn.Module, head: bool = False) -> nn.Sequential:
    """Adds BatchNorm after every linear or convolutional layer of a plain MLP or a "shared" network, after the last one
    only if `head` is set. It replaces GroupNorm.

    Raises ValueError for a network with other layers.
    """
    weighted = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    plain = (*weighted, nn.GroupNorm, nn.ReLU, nn.Flatten, nn.Unflatten, nn.ZeroPad2d)
    if not isinstance(network, nn.Sequential) or not all(isinstance(module, plain) for module in network):
        raise ValueError(
            "BatchNorm can be added to plain networks only; choose network = shared, mlp_vg or mlp_WIDTH[_WIDTH...]"
        )
    kept = [module for module in network if not isinstance(module, nn.GroupNorm)]
    where = [i for i, module in enumerate(kept) if isinstance(module, weighted)]
    wanted = where if head else where[:-1]
    layers: list[nn.Module] = []
    for i, module in enumerate(kept):
        layers.append(module)
        if i in wanted and isinstance(module, nn.Linear):
            layers.append(nn.BatchNorm1d(module.out_features))
        elif i in wanted and isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            layers.append(nn.BatchNorm2d(module.out_channels))
    return nn.Sequential(*layers)
