"""VQ-VAE: the lookup against scikit-learn, the gradients of its three terms, and a prior that can only look back."""

import math

import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch.nn import functional as F

from trainables.catalog import find
from trainables.methods.vq_vae import Codebook

SHAPE = (1, 8, 8)
VALUES = {"latent_dim": 3, "learning_rate": 1e-3, "batch_size": 8, "network": "shared_4", "likelihood": "sse"}
OWN = {"words": 11, "commitment": 0.25, "prior_width": 6}


def made(**changed):
    torch.manual_seed(0)
    return find("vq_vae")(find("vq_vae").Hyper(**VALUES | OWN | changed), SHAPE)


def spread(method):
    """Words as far apart as codes, so that several are in use."""
    with torch.no_grad():
        method.codebook.words.normal_()
    return method


def test_a_code_becomes_the_nearest_word():
    torch.manual_seed(0)
    codebook, z = Codebook(11, 3), torch.randn(5, 3, 4, 2)
    with torch.no_grad():
        codebook.words.normal_()
    flat = z.movedim(1, -1).reshape(-1, 3).numpy()
    expected = NearestNeighbors(n_neighbors=1).fit(codebook.words.detach().numpy()).kneighbors(flat)[1]
    indices = codebook.nearest(z)
    assert indices.flatten().tolist() == expected[:, 0].tolist()
    torch.testing.assert_close(codebook.look_up(indices)[2, :, 1, 0], codebook.words[indices[2, 1, 0]])


def test_the_gradients_of_the_three_terms_by_hand():
    """The codebook moves to the codes; the encoder is drawn to the words and gets the decoder's gradient unchanged."""
    method, x = spread(made()), torch.rand(8, *SHAPE)
    z = method.encoder(x).detach().requires_grad_()
    method.encoder.forward = lambda _: z
    losses = method.losses(x)
    (of_z,) = torch.autograd.grad(losses["autoencoder"].total, z, retain_graph=True)
    (of_words,) = torch.autograd.grad(losses["codebook"].total, method.codebook.words)
    indices = method.codebook.nearest(z)
    word = method.codebook.look_up(indices).detach()
    at_word = word.clone().requires_grad_()
    straight = torch.autograd.grad(((method.decoder(at_word).sigmoid() - x) ** 2).sum() / 8, at_word)[0]
    torch.testing.assert_close(of_z, straight + 2 * 0.25 * (z.detach() - word) / 8)
    pulled = torch.zeros(11, 3).index_add(
        0, indices.flatten(), (2 * (word - z.detach()) / 8).movedim(1, -1).reshape(-1, 3)
    )
    torch.testing.assert_close(of_words, pulled)


def test_the_prior_sees_only_what_comes_before():
    prior = made(network="shared_4").densities["autoregressive"]
    z = torch.randn(1, *prior.shape)
    first = prior.logits(z)
    _, height, width = prior.shape
    for at in range(height * width):
        changed = z.clone()
        changed[0, :, at // width, at % width] += 1.0
        differs = (prior.logits(changed) - first).abs().sum((0, 1)).flatten() > 1e-7
        assert not differs[: at + 1].any() and (at + 1 == height * width or differs[at + 1])


def test_the_prior_of_all_pictures_of_words_sums_to_one():
    method = spread(made(words=3))
    prior = method.densities["autoregressive"]
    assert prior.shape == (3, 2, 2)
    every = torch.cartesian_prod(*[torch.arange(3)] * 4).view(-1, 2, 2)
    total = sum(math.exp(-prior.nats(picture[None]).item()) for picture in every)
    assert total == pytest.approx(1, rel=1e-5)


def test_samples_have_the_probabilities_of_the_prior():
    method = spread(made(words=2))
    prior = method.densities["autoregressive"]
    with torch.no_grad():
        prior.body[-1].weight.mul_(5)  # far from independent
        indices = method.codebook.nearest(prior.sample(20_000).unflatten(1, prior.shape)).flatten(1)
        places = torch.tensor([8, 4, 2, 1])
        counts = torch.bincount(indices @ places, minlength=16) / 20_000
        every = torch.cartesian_prod(*[torch.arange(2)] * 4).view(-1, 2, 2)
        expected = torch.tensor([math.exp(-prior.nats(picture[None]).item()) for picture in every])
    assert (counts - expected).abs().max() < 0.015


def test_nats_are_the_cross_entropy_of_each_word():
    prior = spread(made()).densities["autoregressive"]
    indices = torch.randint(11, (4, 2, 2))
    logits = prior.logits(prior.codebook().look_up(indices))
    by_hand = -sum(
        F.log_softmax(logits[b, :, i, j], 0)[indices[b, i, j]] for b in range(4) for i in range(2) for j in range(2)
    )
    assert prior.nats(indices).item() == pytest.approx(by_hand.item() / 4, rel=1e-5)


def test_the_histogram_draws_words_as_often_as_they_occur():
    method = spread(made())
    density = method.densities["histogram"]
    indices = torch.randint(11, (50, 2, 2))
    density.fit(method.codebook.look_up(indices).detach().flatten(1), seed=0)
    for at, place in enumerate(indices.flatten(1).T):
        assert density.shares[at].tolist() == pytest.approx(
            [(place == word).float().mean().item() for word in range(11)]
        )
    drawn = method.codebook.nearest(density.sample(4000).unflatten(1, density.shape)).flatten(1)
    shares = torch.bincount(drawn[:, 3], minlength=11) / 4000
    assert (shares - density.shares[3]).abs().max() < 0.03


def test_what_is_decoded_is_looked_up_first():
    method = spread(made()).eval()
    z = torch.randn(6, method.code_dim)
    words = method.codebook.look_up(method.codebook.nearest(z.unflatten(1, method.code_shape))).flatten(1)
    torch.testing.assert_close(method.decode(z), method.decode(words))


def test_networks_without_pictures_of_codes_are_named():
    with pytest.raises(ValueError, match="network = 'mlp_8' has no code_sides; use shared or shared_WIDTH"):
        made(network="mlp_8")
