"""The fully connected networks of the VG paper, "mlp_vg" (methods.md 5.0): one hidden layer of d^2 units around a
latent of size d, at most 10,000 of them; "mlp_vg_400" has 400 whatever the latent. ReLU; the critic has 256.

BatchNorm is no part of the kind: `with_batch_norm` puts it into any such network.
"""

import re

from torch import nn

from trainables.networks import mlp

KINDS = "mlp_vg or mlp_vg_HIDDEN, e.g. mlp_vg_400"
MOST_HIDDEN = 10_000  # d = 500 would ask for 250,000 units and 0.8 G weights
CRITIC_HIDDEN = 256


def accepts(kind: str) -> bool:
    return re.fullmatch(r"mlp_vg(_[1-9]\d*)?", kind) is not None


def hidden(kind: str, latent: int) -> int:
    """Units of the hidden layer around a latent of this size."""
    given = kind.removeprefix("mlp_vg").removeprefix("_")
    return int(given) if given else min(latent**2, MOST_HIDDEN)


def encoder(shape: tuple[int, ...], kind: str, out: int) -> nn.Module:
    """Its head has 2d outputs: d is taken to be half of `out`, also where an encoder gives no log-variances."""
    return mlp.encoder(shape, f"mlp_{hidden(kind, max(1, out // 2))}", out)


def decoder(shape: tuple[int, ...], kind: str, latent: int) -> nn.Module:
    return mlp.decoder(shape, f"mlp_{hidden(kind, latent)}", latent)


def critic(shape: tuple[int, ...], kind: str, out: int) -> nn.Module:
    return mlp.encoder(shape, f"mlp_{CRITIC_HIDDEN}", out)


def with_batch_norm(network: nn.Module, head: bool = False) -> nn.Sequential:
    """A plain MLP, or the "shared" network, with BatchNorm behind every linear or convolutional layer, behind the last
    only if `head` says so. It takes the place of GroupNorm.

    Raises ValueError for a network that is made of anything else.
    """
    weighted = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    plain = (*weighted, nn.GroupNorm, nn.ReLU, nn.Flatten, nn.Unflatten, nn.ZeroPad2d)
    if not isinstance(network, nn.Sequential) or not all(isinstance(module, plain) for module in network):
        raise ValueError(
            "BatchNorm is put into plain networks only; choose network = shared, mlp_vg or mlp_WIDTH[_WIDTH...]"
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
