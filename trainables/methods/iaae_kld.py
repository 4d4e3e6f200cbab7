"""KLD-loss-IAAE: AAE with a divergence between codes and prior added to one of its losses (AAE paper;
methods.md 4.4).

    none:      critic     L_D + w KLDiv(log_softmax(z), e), as in the released code
    encoder:   generator  L_G + w KL(N(mu, sigma^2) || N(0, I))
    marginal:  generator  L_G + w KL(N(m, v) || N(0, I)),  m and v the moments of z over the batch

The first is literal and has no effect: its term does not depend on the weights of D, and only D is updated with it. So
it trains exactly as AAE at the same seed; at other seeds it shows the noise of the paper's tables. The other two are
possible readings of the text.

B batch, C H W image, D latent.
"""

from typing import Literal

import torch
from torch import Tensor

from trainables.families.aae import AdversarialAutoencoder
from trainables.losses import fake, kl_to_standard_normal, real
from trainables.method import Loss, NonNegative


def literal(z: Tensor, e: Tensor) -> Tensor:
    """KLDivLoss()(log_softmax(z), e) of the released code, (B, D) each -> (): a mean over all entries, with noise e as
    the target "probabilities". Negative targets contribute 0, as in PyTorch when the code was written."""
    log_ratio = e.clamp_min(torch.finfo(e.dtype).tiny).log() - z.log_softmax(1)  # (B, D)
    return (e.clamp_min(0) * log_ratio).mean()


class KLDLossIAAE(AdversarialAutoencoder):
    class Hyper(AdversarialAutoencoder.Hyper):
        reading: Literal["none", "encoder", "marginal"]
        kld_weight: NonNegative  # w

    hyper: Hyper

    def critic_loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        if self.hyper.reading != "none":
            return super().critic_loss(x)
        with torch.no_grad():
            z = self.encode(x).draw()  # (B, D)
        e = torch.randn_like(z)
        gan_real, gan_fake, kld = real(self.critic(e)), fake(self.critic(z)), literal(z, e)  # () each
        terms = {"gan_real": gan_real, "gan_fake": gan_fake, "kld": kld}
        return Loss(gan_real + gan_fake + self.hyper.kld_weight * kld, terms)

    def generator_loss(self, x: Tensor) -> Loss:
        if self.hyper.reading == "none":
            return super().generator_loss(x)
        q = self.encode(x)
        z = q.draw()  # (B, D)
        generator = real(self.critic(z))  # ()
        if self.hyper.reading == "encoder":
            kld = kl_to_standard_normal(q.mean, q.log_var)  # ()
        else:
            moments = z.mean(0), (z.var(0, correction=0) + 1e-12).log()  # (D,) each
            kld = kl_to_standard_normal(moments[0][None], moments[1][None])  # ()
        return Loss(generator + self.hyper.kld_weight * kld, {"generator": generator, "kld": kld})
