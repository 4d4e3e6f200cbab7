"""DINOv2 and CLIP from folders of weights, against other people's code on the same seeded weights.

timm's vision transformer is written apart from the one of transformers that loads the weights; of the CMMD the
authors' way is retraced with Pillow and the processor of the hub.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from trainables.datasets import Split, Splits
from trainables.metrics import Moments, Scores, extractor, frechet_distance
from trainables.metrics.kernels import cmmd

transformers = pytest.importorskip("transformers")
timm = pytest.importorskip("timm")
WIDTH, LAYERS, HEADS = 48, 2, 4


def splits(shape=(3, 20, 20)):
    """Noise; the validation images are dark, so that they lie apart from the test images."""
    generator = np.random.default_rng(0)
    brightest = (256, 64, 256)
    parts = (Split(generator.integers(0, high, (12, *shape), dtype=np.uint8)) for high in brightest)
    return Splits("noise", "cifar10", *parts)


def seeded(network):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


@pytest.fixture(scope="module")
def dinov2_folder(tmp_path_factory):
    config = transformers.Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, image_size=224, patch_size=14
    )
    folder = tmp_path_factory.mktemp("dinov2")
    seeded(transformers.Dinov2Model(config)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    config = transformers.CLIPVisionConfig(
        hidden_size=WIDTH, intermediate_size=96, projection_dim=16, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, image_size=56, patch_size=14,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("clip")
    seeded(transformers.CLIPVisionModelWithProjection(config)).save_pretrained(folder)
    return folder


def resized(images, side):
    """By Pillow, uint8 (N, C, H, W) -> floats (N, 3, side, side), as both papers' programs read files."""
    pictures = [Image.fromarray(image.transpose(1, 2, 0).squeeze()).convert("RGB") for image in images]
    arrays = [np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC)) for picture in pictures]
    return torch.tensor(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255


def in_timm(folder):
    """The same weights in timm's vision transformer."""
    network = timm.models.vision_transformer.VisionTransformer(
        img_size=224, patch_size=14, embed_dim=WIDTH, depth=LAYERS, num_heads=HEADS, num_classes=0, init_values=1.0,
    )  # fmt: skip
    theirs = load_file(folder / "model.safetensors")
    state = {
        "cls_token": theirs["embeddings.cls_token"],
        "pos_embed": theirs["embeddings.position_embeddings"],
        **{f"patch_embed.proj.{kind}": theirs[f"embeddings.patch_embeddings.projection.{kind}"] for kind in WEIGHTS},
        **{f"norm.{kind}": theirs[f"layernorm.{kind}"] for kind in WEIGHTS},
    }
    parts = {"norm1": "norm1", "norm2": "norm2", "attn.proj": "attention.output.dense"}
    parts |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for i in range(LAYERS):
        block, layer = f"blocks.{i}", f"encoder.layer.{i}"
        for kind in WEIGHTS:
            state |= {f"{block}.{a}.{kind}": theirs[f"{layer}.{b}.{kind}"] for a, b in parts.items()}
            attention = [theirs[f"{layer}.attention.attention.{name}.{kind}"] for name in ("query", "key", "value")]
            state[f"{block}.attn.qkv.{kind}"] = torch.cat(attention)
        for scale in ("1", "2"):
            state[f"{block}.ls{scale}.gamma"] = theirs[f"{layer}.layer_scale{scale}.lambda1"]
    network.load_state_dict(state)
    return network.eval()


WEIGHTS = ("weight", "bias")


@torch.no_grad()
def test_fd_dinov2_is_that_of_timms_network_and_pillows_resize(dinov2_folder):
    data = splits()
    judge = extractor(f"fd_dinov2:{dinov2_folder}", data)
    assert (judge.metric, judge.dims, judge.channels) == ("fd_dinov2", WIDTH, 3)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    network = in_timm(dinov2_folder)

    def theirs(images):
        return network((resized(images, 224) - mean) / std)

    sides = [data.valid.images, data.test.images]
    for images in sides:
        ours = judge(torch.tensor(images).float() / 255)
        torch.testing.assert_close(ours, theirs(images), rtol=0.01, atol=0.01)  # features of size 1; rounding of pixels
    gathered = Scores(judge)
    gathered.update(torch.tensor(sides[0]).float() / 255)
    expected = frechet_distance(*(Moments.of(theirs(images)) for images in sides))
    assert gathered.against(sides[1]) == {"fd_dinov2": pytest.approx(expected, rel=1e-3)}


@torch.no_grad()
@pytest.mark.parametrize("shape", [(3, 20, 20), (1, 12, 12), (3, 20, 28)])
def test_cmmd_is_that_of_the_papers_steps(clip_folder, shape):
    data = splits(shape)
    judge = extractor(f"cmmd:{clip_folder}", data)
    assert (judge.metric, judge.dims) == ("cmmd", 16)
    network = transformers.CLIPVisionModelWithProjection.from_pretrained(clip_folder).eval()
    processor = transformers.CLIPImageProcessor(do_resize=False, do_center_crop=False, do_rescale=False)

    def theirs(images):
        side = min(shape[1:])
        top, left = (shape[1] - side) // 2, (shape[2] - side) // 2
        square = images[:, :, top : top + side, left : left + side]
        pixels = processor(images=list(resized(square, 56)), return_tensors="pt")["pixel_values"]
        embeddings = network(pixel_values=pixels).image_embeds
        return embeddings / embeddings.norm(dim=1, keepdim=True)

    fake, real = data.valid.images, data.test.images
    gathered = Scores(judge)
    gathered.update(torch.tensor(fake).float() / 255)
    x, y = theirs(fake).double(), theirs(real).double()

    def kernel(a, b):
        return torch.exp(-(a[:, None] - b).square().sum(2) / (2 * 10**2)).mean()

    expected = 1000 * (kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)).item()
    assert expected > 0.01 and gathered.against(real) == {"cmmd": pytest.approx(expected, rel=0.01)}
    assert cmmd(x, x) == pytest.approx(0, abs=1e-9)


def test_what_holds_no_such_weights_is_refused_in_one_line(clip_folder, dinov2_folder, tmp_path):
    wrong = {
        f"cmmd:{tmp_path}": "config.json is missing",
        f"cmmd:{dinov2_folder}": "expected a folder of a clip",
        f"fd_dinov2:{clip_folder}": "expected a folder of a dinov2",
        "cmmd": "needs weights; write cmmd:PATH",
        "fd_dinov2:": "lacks weights; write fd_dinov2:PATH",
    }
    for metric, words in wrong.items():
        with pytest.raises(ValueError, match=words) as error:
            extractor(metric, splits())
        assert "\n" not in str(error.value), metric
