"""Methods on disk: whole, without pickle, and an error of one line if something is missing."""

import copy
import json
import pickle

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from trainables import Config, fit, load, save
from trainables.evaluate import fit_densities
from trainables.saved import save_grid
from trainables.testing import glance, made_up

VALUES = {
    "latent_dim": 4,
    "learning_rate": 5e-3,
    "batch_size": 8,
    "network": "mlp_32_16",
    "likelihood": "bce",
}
GAE = Config(method="gae", dataset="made-up", values=VALUES, epochs=2)
IMAGES = made_up((1, 8, 8), 20)


@pytest.fixture
def folder(tmp_path):
    """A trained and saved GAE."""
    *_, last = fit(GAE, IMAGES, glance)
    save(last.method, GAE, tmp_path / "winners" / "gae")
    return tmp_path / "winners" / "gae"


def test_a_loaded_method_is_the_saved_one(folder):
    *_, last = fit(GAE, IMAGES, glance)
    loaded = load(folder)
    assert not loaded.training
    for look in (lambda m: m.sample(6), lambda m: m.reconstruct(X), lambda m: m.encode(X).mean):
        torch.manual_seed(0)
        one = look(last.method)
        torch.manual_seed(0)
        assert torch.equal(one, look(loaded))
    assert loaded.hyper == last.method.hyper and loaded.shape == (1, 8, 8)


X = IMAGES[:4].float() / 255


@pytest.mark.parametrize(
    "call, words",
    [
        (
            lambda m: m.reconstruct(255 * X),
            f"images must be in [0, 1], got values from {255 * X.min():g} to {255 * X.max():g}; scale them",
        ),
        (lambda m: m.reconstruct(2 * X - 1), f"images must be in [0, 1], got values from {2 * X.min() - 1:g} to "),
        (lambda m: m.encode(X * torch.nan), "images must be in [0, 1], got values from nan to nan"),
        (lambda m: m.encode(IMAGES[:4]), "images must be torch.float32, got torch.uint8; use x.float() / 255"),
        (lambda m: m.encode(X.double()), "images must be torch.float32, got torch.float64; use x.float()"),
        (lambda m: m.encode(X.numpy()), "images must be a torch.Tensor, got ndarray; use torch.as_tensor"),
        (lambda m: m.encode(X[:, 0]), "images must be of shape (B, 1, 8, 8), got (4, 8, 8)"),
        (lambda m: m.reconstruct(X.movedim(1, -1)), "images must be of shape (B, 1, 8, 8), got (4, 8, 8, 1)"),
        (lambda m: m.decode(torch.zeros(2, 5)), "codes must be of shape (B, 4), got (2, 5)"),
        (lambda m: m.decode(torch.zeros(4)), "codes must be of shape (B, 4), got (4,)"),
        (lambda m: m.decode(torch.zeros(2, 4, dtype=torch.int64)), "codes must be torch.float32, got torch.int64"),
        (lambda m: m.sample(0), "the number of images must be an integer of at least 1, got 0"),
        (lambda m: m.sample(2.0), "the number of images must be an integer of at least 1, got 2.0"),
        (lambda m: m.sample(2, "prior"), "density 'prior' is not known; choose from gmm"),
    ],
)
def test_a_loaded_method_refuses_inputs_unlike_those_of_its_training(call, words, folder):
    for model in (loaded := load(folder), copy.deepcopy(loaded)):
        with pytest.raises(ValueError) as error:
            call(model)
        assert words in str(error.value) and "\n" not in str(error.value)


def test_a_loaded_method_can_be_copied_and_pickled(folder):
    loaded = load(folder)
    for other in (copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))):
        assert torch.equal(other.encode(X).mean, loaded.encode(X).mean)
        with torch.no_grad():
            next(other.encoder.parameters()).zero_()
        assert not torch.equal(other.encode(X).mean, loaded.encode(X).mean)  # its own weights
    assert load(folder).encode(X + 1e-4).mean.isfinite().all()  # as after a resize


def test_weights_are_readable_like_the_configuration(folder):
    (folder / "new").touch()
    modes = {(folder / name).stat().st_mode for name in ("model.safetensors", "config.json", "new")}
    assert len(modes) == 1


def test_the_fitted_density_is_saved_too(folder):
    fresh = load(folder)
    before = fresh.densities["gmm"].means.clone()
    fit_densities(fresh, IMAGES, seed=0)
    assert torch.equal(fresh.densities["gmm"].means, before) and before.any()


def test_a_folder_holds_tensors_and_json_and_nothing_else(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    found = json.loads((folder / "config.json").read_text())
    assert Config(**found["config"]) == GAE and found["shape"] == [1, 8, 8]
    assert set(load_file(folder / "model.safetensors")) == set(load(folder).state_dict())


def test_a_method_from_outside_comes_back(tmp_path):
    values = {"latent_dim": 4, "learning_rate": 1e-3, "batch_size": 8, "network": "mlp_32_16", "noise": 0.1}
    config = Config(method="small_methods:TwoStage", dataset="made-up", values=values, epochs=2)
    *_, last = fit(config, IMAGES)
    save(last.method, config, tmp_path)
    assert type(load(tmp_path)) is type(last.method)


def spoil_config(folder, change) -> None:
    found = json.loads((folder / "config.json").read_text())
    change(found)
    (folder / "config.json").write_text(json.dumps(found))


SPOILS = [
    (lambda f: (f / "config.json").unlink(), "contains no saved method"),
    (lambda f: (f / "model.safetensors").unlink(), "contains no saved method"),
    (lambda f: (f / "config.json").write_text("{"), "contains no saved method"),
    (lambda f: (f / "config.json").write_text("[1]"), "contains no saved method"),
    (lambda f: (f / "model.safetensors").write_bytes(b"half"), "contains no saved method"),
    (lambda f: spoil_config(f, lambda found: found.pop("shape")), "contains no saved method"),
    (lambda f: spoil_config(f, lambda found: found.update(config=3)), "contains no saved method"),
    (lambda f: spoil_config(f, lambda found: found.pop("config")), "contains no saved method"),
    (
        lambda f: spoil_config(f, lambda found: found["config"].update(epoch=3)),
        "unknown key 'epoch'; did you mean 'epochs'",
    ),
    (
        lambda f: spoil_config(f, lambda found: found["config"]["values"].pop("likelihood")),
        "gae: likelihood is missing",
    ),
    (
        lambda f: spoil_config(f, lambda found: found["config"].update(method="gea")),
        "method 'gea' is not known",
    ),
    (lambda f: spoil_config(f, lambda found: found["config"]["values"].update(latent_dim=5)), "do not fit"),
    (lambda f: save_file({"a": torch.ones(1)}, f / "model.safetensors"), "do not fit"),
]


@pytest.mark.parametrize("spoil, words", SPOILS)
def test_what_cannot_be_loaded_is_an_error_of_one_line(folder, spoil, words):
    spoil(folder)
    with pytest.raises(ValueError, match=words) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="nowhere contains no saved method"):
        load(tmp_path / "nowhere")


# Grids


@pytest.mark.parametrize("channels, mode", [(1, "L"), (3, "RGB")])
def test_a_grid_is_a_png_of_all_pictures_in_rows(tmp_path, channels, mode):
    images = torch.zeros(5, channels, 64, 64)
    images[3] = 0.5
    save_grid(images, tmp_path / "deep" / "grid.png", columns=2)
    grid = Image.open(tmp_path / "deep" / "grid.png")
    assert grid.mode == mode and grid.size == (2 + 2 * 66, 2 + 3 * 66)
    channel = grid if channels == 1 else grid.getchannel(0)
    assert channel.getpixel((0, 0)) == 255  # the gap
    assert channel.getpixel((2 + 5, 2 + 5)) == 0
    assert channel.getpixel((2 + 66 + 5, 2 + 66 + 5)) == 128  # picture 3: second row, second column
    assert channel.getpixel((2 + 66 + 5, 2 + 2 * 66 + 5)) == 255  # no sixth picture


def test_small_pictures_are_enlarged_pixel_by_pixel(tmp_path):
    image = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
    save_grid(image, tmp_path / "grid.png")
    grid = Image.open(tmp_path / "grid.png")
    assert grid.size == (68, 68)
    assert [grid.getpixel(at) for at in ((2, 2), (33, 33), (34, 33), (34, 34))] == [0, 0, 255, 0]


def test_points_become_one_picture_of_where_they_lie(tmp_path):
    save_grid(torch.tensor([[-1.5, 1.5], [0.0, -9.0]]), tmp_path / "points.png")
    picture = Image.open(tmp_path / "points.png")
    assert picture.size == (132, 132)
    black = {at for at in ((x, y) for x in range(132) for y in range(132)) if picture.getpixel(at) == 0}
    assert black == {(2, 2), (2 + 64, 2 + 127)}  # top left; the middle of the lower edge, to which it is cut


def test_values_beyond_black_and_white_are_cut(tmp_path):
    save_grid(torch.tensor([-3.0, 3.0])[:, None, None, None].expand(2, 1, 64, 64), tmp_path / "grid.png")
    grid = Image.open(tmp_path / "grid.png")
    assert grid.getpixel((10, 10)) == 0 and grid.getpixel((76, 10)) == 255
