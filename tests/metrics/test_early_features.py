"""The Inception reading of feature-IAAE, with a file of seeded random weights where torch hub would keep its own."""

import pytest
import seeded_inception
import torch
from torch.nn.functional import interpolate
from torchvision.models.inception import BasicConv2d

from trainables.config import Config
from trainables.fit import fit
from trainables.metrics.inception import WEIGHTS, early_features

VALUES = {"latent_dim": 3, "learning_rate": 1e-3, "batch_size": 8, "network": "mlp_aae_16_8", "critic_rate": 1.0}
VALUES |= {"generator_rate": 1.0, "features": "inception", "feature_weight": 0.5}


@pytest.fixture
def state(tmp_path, monkeypatch):
    """The weights in a hub folder of their own."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    early_features.cache_clear()
    yield torch.load(seeded_inception.write(folder / WEIGHTS), weights_only=True)
    early_features.cache_clear()


@pytest.mark.slow
def test_feature_iaae_trains_on_the_early_features_of_a_weights_file(state, generator):
    convolutions = [BasicConv2d(3, 32, kernel_size=3, stride=2), BasicConv2d(32, 32, kernel_size=3)]
    convolutions.append(BasicConv2d(32, 64, kernel_size=3, padding=1))
    for convolution, name in zip(convolutions, ("1a_3x3", "2a_3x3", "2b_3x3"), strict=True):
        start = f"Conv2d_{name}."
        convolution.load_state_dict({k.removeprefix(start): v for k, v in state.items() if k.startswith(start)})
    by_hand = torch.nn.Sequential(*convolutions).eval()
    images = torch.rand(2, 1, 8, 8, generator=generator)
    large = interpolate(images.expand(-1, 3, -1, -1), size=(299, 299), mode="bilinear", align_corners=False)
    expected = by_hand(2 * large - 1).mean((2, 3))
    torch.testing.assert_close(early_features("cpu")(images), expected, rtol=1e-4, atol=1e-5)

    pictures = torch.randint(256, (16, 1, 8, 8), generator=generator, dtype=torch.uint8)
    for values in (VALUES, VALUES | {"features": "latent"}):
        config = Config(method="iaae_feature", dataset="made-up", values=values, epochs=1)
        (report,) = fit(config, pictures)
        found = report.metrics["train/features"]
        weights = torch.cat([p.detach().flatten() for p in report.method.decoder.parameters()])
        if values is VALUES:
            by_features, descended = found, weights
    assert by_features > 0 and by_features != found
    assert not torch.equal(descended, weights)  # the decoder has learned from them
    assert not any(p.requires_grad or p.grad is not None for p in early_features("cpu").parameters())
