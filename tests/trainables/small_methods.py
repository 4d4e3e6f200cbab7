"""Four small methods with one unusual trait each, to prove that the interface carries them.

B batch, D latent, K components, F features, N images.
"""

import math
from collections.abc import Mapping
from functools import partial

import torch
from sklearn.mixture import GaussianMixture as ScikitMixture
from torch import Tensor, nn

from trainables.densities import Density
from trainables.losses import bce, fake, kl_to_standard_normal, real, squared_error
from trainables.method import (
    Gaussian,
    Loss,
    Method,
    NonNegative,
    Optimiser,
    Player,
    Positive,
    PositiveInt,
    Posterior,
    Stage,
)
from trainables.networks import Networks
from trainables.training import as_images


class Adversarial(Method):
    """AAE-like: autoencoder, critic of latents and generator take turns, the critic several in a row."""

    class Hyper(Method.Hyper):
        critic_turns: PositiveInt
        critic_rate: Positive

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        d = self.hyper.latent_dim
        self.encoder = nn.Sequential(nets.encoder(d), nn.BatchNorm1d(d))  # statistics on two players' turns
        self.decoder = nets.decoder(d)
        self.critic = nn.Sequential(nn.Linear(d, 16), nn.ReLU(), nn.Linear(16, 1))

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(self.encoder(x))

    def autoencoder_loss(self, x: Tensor) -> Loss:
        reconstruction = bce(self.decoder(self.encoder(x)), x)  # ()
        return Loss(reconstruction, {"reconstruction": reconstruction})

    def critic_loss(self, x: Tensor) -> Loss:
        z = self.encoder(x)  # (B, D)
        total = real(self.critic(torch.randn_like(z))) + fake(self.critic(z))  # ()
        return Loss(total, {"critic": total})

    def generator_loss(self, x: Tensor) -> Loss:
        fooled = real(self.critic(self.encoder(x)))  # ()
        return Loss(fooled, {"generator": fooled})

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        h = self.hyper
        own, critics = Optimiser(h.learning_rate), Optimiser(h.critic_rate, betas=(0.5, 0.999))
        return (
            Stage(
                epochs=epochs,
                players=(
                    Player((self.encoder, self.decoder), self.autoencoder_loss, own, "autoencoder"),
                    Player((self.critic,), self.critic_loss, critics, "critic", turns=h.critic_turns),
                    Player((self.encoder,), self.generator_loss, own, "generator"),
                ),
            ),
        )


class LearnedMixture(Density):
    """sum_k pi_k N(m_k, diag v_k) with everything learnt."""

    def __init__(self, dim: int, components: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))  # (K,)
        self.means = nn.Parameter(torch.randn(components, dim))  # (K, D)
        self.log_vars = nn.Parameter(torch.zeros(components, dim))  # (K, D)

    def sample(self, n: int) -> Tensor:
        k = torch.multinomial(self.logits.softmax(0), n, replacement=True)  # (n,)
        return self.means[k] + (0.5 * self.log_vars[k]).exp() * torch.randn_like(self.means[k])

    def log_prob(self, z: Tensor) -> Tensor:
        """(B, D) -> (B,), without the constant."""
        distance = (z[:, None] - self.means).square() / self.log_vars.exp()  # (B, K, D)
        return (self.logits.log_softmax(0) - 0.5 * (self.log_vars + distance).sum(2)).logsumexp(1)


class Pretrained(Method):
    """VaDE-like: an autoencoder first, unjudged; EM on its codes; then a VAE whose prior is that mixture."""

    class Hyper(Method.Hyper):
        components: PositiveInt
        pretrain: PositiveInt  # epochs, at most half of all

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        d = self.hyper.latent_dim
        self.encoder, self.decoder = nets.encoder(2 * d), nets.decoder(d)
        self.densities = nn.ModuleDict({"mixture": LearnedMixture(d, self.hyper.components)})

    def encode(self, x: Tensor) -> Gaussian:
        return Gaussian.from_head(self.encoder(x))

    def pretraining_loss(self, x: Tensor) -> Loss:
        reconstruction = bce(self.decoder(self.encode(x).mean), x)  # ()
        return Loss(reconstruction, {"reconstruction": reconstruction})

    @torch.no_grad()
    def fit_clusters(self, images: Tensor) -> None:
        codes = self.encode(as_images(images)).mean.double().cpu().numpy()  # (N, D)
        found = ScikitMixture(self.hyper.components, covariance_type="diag", random_state=int(torch.randint(2**31, ())))
        found.fit(codes)
        mixture = self.densities["mixture"]
        mixture.logits.copy_(torch.from_numpy(found.weights_).log())
        mixture.means.copy_(torch.from_numpy(found.means_))
        mixture.log_vars.copy_(torch.from_numpy(found.covariances_).log())

    def loss(self, x: Tensor) -> Loss:
        q = self.encode(x)
        z = q.draw()  # (B, D)
        reconstruction = bce(self.decoder(z), x)  # ()
        log_q = -0.5 * (q.log_var + (z - q.mean).square() / q.log_var.exp()).sum(1)  # (B,)
        kl = (log_q - self.densities["mixture"].log_prob(z)).mean()  # ()
        return Loss(reconstruction + kl, {"reconstruction": reconstruction, "kl_z": kl})

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        pretrain = min(self.hyper.pretrain, epochs // 2)
        own = Optimiser(self.hyper.learning_rate)
        network = (self.encoder, self.decoder)
        return (
            Stage("pretrain", pretrain, (Player(network, self.pretraining_loss, own),), judged=False),
            Stage(
                "cluster", epochs - pretrain, (Player((*network, self.densities), self.loss, own),),
                prepare=self.fit_clusters,
            ),
        )  # fmt: skip


class SecondVAE(Density):
    """A VAE over z."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim
        self.encoder = nn.Sequential(nn.Linear(dim, 32), nn.ReLU(), nn.Linear(32, 2 * dim))
        self.decoder = nn.Sequential(nn.Linear(dim, 32), nn.ReLU(), nn.Linear(32, dim))

    def sample(self, n: int) -> Tensor:
        return self.decoder(torch.randn(n, self.dim, device=self.decoder[0].weight.device))

    def loss(self, z: Tensor, noise: float) -> Loss:
        q = Gaussian.from_head(self.encoder(z))
        error = squared_error(self.decoder(q.draw()), z)  # ()
        kl = kl_to_standard_normal(q.mean, q.log_var)  # ()
        return Loss(error / (2 * noise) + kl, {"second_error": error, "second_kl": kl})


class TwoStage(Method):
    """Two-stage VAE: the second VAE learns the codes of the first, drawn anew from q(z|x) for every batch."""

    class Hyper(Method.Hyper):
        noise: Positive  # variance of the second decoder

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        d = self.hyper.latent_dim
        self.encoder = nn.Sequential(nets.encoder(2 * d), nn.BatchNorm1d(2 * d))  # codes need eval mode
        self.decoder = nets.decoder(d)
        self.densities["second"] = SecondVAE(d)

    def encode(self, x: Tensor) -> Gaussian:
        return Gaussian.from_head(self.encoder(x))

    def loss(self, x: Tensor) -> Loss:
        q = self.encode(x)
        reconstruction = bce(self.decoder(q.draw()), x)  # ()
        kl = kl_to_standard_normal(q.mean, q.log_var)  # ()
        return Loss(reconstruction + kl, {"reconstruction": reconstruction, "kl": kl})

    def posteriors(self, images: Tensor) -> Tensor:
        q = self.encode(as_images(images))
        return torch.stack([q.mean, q.log_var], 1)  # (N, 2, D)

    def second_loss(self, codes: Tensor) -> Loss:  # (B, 2, D)
        return self.densities["second"].loss(Gaussian(codes[:, 0], codes[:, 1]).draw(), self.hyper.noise)

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        own = Optimiser(self.hyper.learning_rate, schedule=lambda epoch: 0.5 ** (epoch // 2))
        first = math.ceil(epochs / 2)
        return (
            Stage("first", first, (Player((self.encoder, self.decoder), self.loss, own),)),
            Stage(
                "second", epochs - first, (Player((self.densities["second"],), self.second_loss, own),),
                inputs=self.posteriors,
            ),
        )  # fmt: skip


class Gated(Method):
    """VAE-GAN-like: encoder, decoder, critic move from one forward pass; the critic waits while it leads."""

    class Hyper(Method.Hyper):
        feature_weight: Positive
        margin: NonNegative

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        d = self.hyper.latent_dim
        self.encoder, self.decoder = nets.encoder(2 * d), nets.decoder(d)
        self.features, self.verdict = nets.critic(16), nn.Linear(16, 1)

    def encode(self, x: Tensor) -> Gaussian:
        return Gaussian.from_head(self.encoder(x))

    def losses(self, x: Tensor) -> Mapping[str, Loss]:  # (B, C, H, W)
        q = self.encode(x)
        x_hat = self.decoder(q.draw()).sigmoid()  # (B, C, H, W)
        of_x, of_x_hat = self.features(x), self.features(x_hat)  # (B, F) each
        likeness = 0.5 * squared_error(of_x_hat, of_x)  # ()
        error = squared_error(x_hat, x)  # ()
        kl = kl_to_standard_normal(q.mean, q.log_var)  # ()
        on_x, on_x_hat = real(self.verdict(of_x)), fake(self.verdict(of_x_hat))  # () each
        terms = {"kl": kl, "likeness": likeness, "sse": error, "on_real": on_x, "on_fake": on_x_hat}
        near = error + self.hyper.feature_weight * likeness
        return {
            "encoder": Loss(0.01 * kl + near, terms),
            "decoder": Loss(near - on_x_hat, terms),
            "critic": Loss(on_x + on_x_hat, terms),
        }

    def critic_waits(self, loss: Loss) -> Tensor:
        return (loss.terms["on_real"].detach() > math.log(2) - self.hyper.margin).float()

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        own = Optimiser(self.hyper.learning_rate)
        alone = {name: partial(self.loss_of, name) for name in ("encoder", "decoder", "critic")}
        return (
            Stage(
                epochs=epochs,
                players=(
                    Player((self.encoder,), alone["encoder"], own, "encoder"),
                    Player((self.decoder,), alone["decoder"], own, "decoder"),
                    Player((self.features, self.verdict), alone["critic"], own, "critic", gate=self.critic_waits),
                ),
                joint=self.losses,
            ),
        )

    def loss_of(self, player: str, x: Tensor) -> Loss:
        return self.losses(x)[player]
