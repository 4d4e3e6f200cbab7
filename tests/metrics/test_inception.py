"""The FID's network is pytorch_fid's; a seeded random network stands in for the trained one."""

from unittest.mock import patch
from urllib.error import URLError

import numpy as np
import other_programs
import pytest
import seeded_inception
import torch
from PIL import Image
from pytorch_fid import fid_score
from pytorch_fid import inception as library
from torchvision.utils import save_image

from trainables.metrics import FID, Moments, Scores, extractor, frechet_distance
from trainables.metrics.inception import WAYS, WEIGHTS, bicubic, inception, like_tensorflow1


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return seeded_inception.write(tmp_path_factory.mktemp("weights") / WEIGHTS)


def blobs(n, channels, generator, sharpness):
    """Smooth random images, so that two folders differ in more than noise."""
    coarse = torch.rand(n, channels, sharpness, sharpness, generator=generator)
    return torch.nn.functional.interpolate(coarse, (28, 28), mode="bicubic").clamp(0, 1)


def pytorch_fids(weights):
    """Lets the library find our weights where it would download its own."""
    state = torch.load(weights, weights_only=True)
    return patch.object(library, "load_state_dict_from_url", lambda *_, **__: state)


@pytest.fixture
def quick_roots(monkeypatch):
    """Traces of matrix roots by their few eigenvalues: scipy takes half a minute for the root of a 2048 x 2048 matrix.

    The covariances of 12 pictures have rank 11, and so has their product, whose range 24 random vectors find.
    """

    def root(product, disp=True):
        basis, _ = np.linalg.qr(product @ np.random.default_rng(0).standard_normal((len(product), 24)))
        root = np.diag(np.emath.sqrt(np.linalg.eigvals(basis.T @ product @ basis)))  # of the same trace
        return root if disp else (root, 0.0)

    monkeypatch.setattr("scipy.linalg.sqrtm", root)


def save(images, folder):
    folder.mkdir()
    for i, image in enumerate(images):
        save_image(image, folder / f"{i:03}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_those_of_pytorch_fid_on_png_files(channels, weights, tmp_path, generator):
    images = blobs(4, channels, generator, sharpness=5)
    files = sorted(save(images, tmp_path / "png").glob("*.png"))
    with pytorch_fids(weights):
        theirs = fid_score.get_activations(files, library.InceptionV3(), num_workers=0)
    features = inception(weights)(images)
    assert features.std() > 0.01
    torch.testing.assert_close(features.double(), torch.tensor(theirs), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_distance_is_that_of_pytorch_fid_on_two_folders(weights, tmp_path, generator, quick_roots):
    ours = inception(weights)
    images = [blobs(12, 1, generator, sharpness) for sharpness in (3, 9)]
    folders = [str(save(x, tmp_path / name)) for x, name in zip(images, "ab", strict=True)]
    with pytorch_fids(weights):
        expected = fid_score.calculate_fid_given_paths(folders, 12, "cpu", 2048, num_workers=0)
    distance = frechet_distance(*(Moments.of(ours(x)) for x in images))
    assert distance == pytest.approx(expected, rel=1e-3) and distance > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("program", ["cleanfid", "torch_fidelity"])
def test_scores_are_those_of_other_programs_on_two_folders(program, weights, tmp_path, generator, quick_roots):
    pytest.importorskip(program)
    images = [blobs(12, 1, generator, sharpness) for sharpness in (3, 9)]
    folders = [str(save(x, tmp_path / name)) for x, name in zip(images, "ab", strict=True)]
    expected = other_programs.values_of(program, *folders, weights)
    metric = next(iter(expected))
    more = {"kid", "neighbourhoods", "inception_score"} if len(expected) > 1 else set()
    scores = Scores(inception(weights, metric=metric), {"distance", *more}, split_size=None)
    scores.update(images[0])
    found = scores.against((images[1] * 255).round().byte().numpy())
    # KID is a small difference of numbers of about 1
    tolerances = {name: {"abs": 1e-5} if name.endswith("_kid") else {"rel": 1e-3} for name in expected}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, **tolerances[name]), name
    assert found[metric] > 1e-3


def test_tensorflow_1_took_values_between_the_corners_of_pixels():
    ramp = torch.arange(5.0).expand(1, 1, 4, 5)  # a picture whose values are its columns
    places = (np.arange(299) * 5 / 299).clip(max=4)  # the last pixel has no neighbour
    found = like_tensorflow1(ramp)
    assert found.shape == (1, 1, 299, 299)
    np.testing.assert_allclose(found[0, 0], np.broadcast_to(places, (299, 299)), atol=1e-5)
    torch.testing.assert_close(like_tensorflow1(ramp.mT), found.mT)
    picture = torch.rand(1, 3, 299, 299)
    assert torch.equal(like_tensorflow1(picture), picture)


@pytest.mark.parametrize("side", [8, 28, 400])
def test_the_clean_way_is_pillows_bicubic_of_floats(side, generator):
    picture = (torch.rand(side, side, generator=generator) > 0.5).float()  # so that it overshoots
    theirs = Image.fromarray(picture.numpy()).resize((299, 299), Image.Resampling.BICUBIC)
    ours = bicubic(picture[None, None])[0, 0]
    np.testing.assert_allclose(ours, np.asarray(theirs).clip(0, 1), atol=1e-4)
    assert ours.min() == 0 and ours.max() == 1


@pytest.mark.slow
def test_at_the_networks_own_size_only_the_scaling_differs(weights):
    house, graph, clean = (extractor(metric, None, fid_weights=weights) for metric in FID)
    assert [net.metric for net in (house, graph, clean)] == list(FID)
    picture = torch.rand(1, 3, 299, 299)
    theirs = graph(picture)
    assert torch.equal(clean(picture), theirs)
    assert not torch.allclose(house(picture), theirs, rtol=1e-3)
    torch.testing.assert_close(house.network(graph.network.resize(picture) * (255 / 256)), graph.network(picture))


def test_every_way_has_its_name_and_words():
    assert tuple(WAYS) == FID and len({words for words, _ in WAYS.values()}) == 3


@pytest.mark.slow
def test_extractor_says_what_it_is(weights):
    extractor = inception(weights)
    assert (extractor.name, extractor.metric, extractor.dims) == ("inception-2015", "fid", 2048)
    assert len(extractor.fingerprint) == 16
    features = extractor(torch.rand(1, 1, 8, 8))
    assert features.shape == (1, 2048) and not features.requires_grad
    expected = features @ torch.load(weights, weights_only=True)["fc.weight"].T  # without the bias
    torch.testing.assert_close(extractor.head(features), expected)


def test_a_file_of_something_else_is_refused_in_one_line(tmp_path):
    noise, other, listing = (tmp_path / name for name in ("noise.pth", "other.pth", "listing.pth"))
    noise.write_bytes(b"not weights")
    torch.save({"fc.weight": torch.ones(3)}, other)
    torch.save([1, 2, 3], listing)
    for path in (noise, other, listing, tmp_path / "missing.pth"):
        with pytest.raises(ValueError, match=path.name) as error:
            inception(path)
        assert "\n" not in str(error.value) and WEIGHTS in str(error.value)


def test_neither_file_nor_network_names_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(ValueError) as error:
        inception()
    message = str(error.value)
    assert "\n" not in message
    for way in ("--fid-weights PATH", f"put {WEIGHTS} in {tmp_path}/hub/checkpoints", "--metric fcd"):
        assert way in message


def test_weights_under_torch_hub_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    held = tmp_path / "hub" / "checkpoints" / WEIGHTS
    held.parent.mkdir(parents=True)
    held.write_bytes(b"not weights")
    with pytest.raises(ValueError, match=f"{held} does not contain the weights"):
        inception()
