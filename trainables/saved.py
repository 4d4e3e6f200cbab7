"""A trained method on disk: weights as safetensors and its configuration as JSON, loadable without pickle."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from trainables.catalog import find
from trainables.config import Config, checked
from trainables.files import whole
from trainables.method import Method

SLACK = 0.5 / 255  # a resized picture may leave [0, 1] by a rounding error
GAP = 2  # white pixels around the pictures of a grid


def save(method: Method, config: Config, folder: Path) -> None:
    """Writes model.safetensors and config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous().cpu() for name, tensor in method.state_dict().items()}
    with whole(folder / "model.safetensors") as part:
        save_file(state, part)
    description = {"config": config.model_dump(mode="json"), "shape": list(method.shape)}
    (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n")


def load(folder: str | Path, device: str | torch.device = "cpu") -> Method:
    """Loads the method saved in a folder, ready to `sample(n)`, `reconstruct(x)`, `encode(x)` and `decode(z)`.

    These raise ValueError for inputs unlike those of its training: another type or shape, or pixels outside [0, 1]. The
    method itself does not check them, because a training step must not read a tensor's value back to Python.

    Raises ValueError if the folder contains no saved method, or one whose weights do not fit the current code.
    """
    folder = Path(folder)
    try:
        description = json.loads((folder / "config.json").read_text())
        config, shape = checked(Config, description["config"], "config.json"), tuple(description["shape"])
        state = load_file(folder / "model.safetensors", device=str(device))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(f"{folder} contains no saved method ({error})") from error
    method = find(config.method)(config.hyper, shape).to(device)
    try:
        method.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"{folder}: its weights do not fit {config.method}; load them with the code that saved them"
        ) from error
    for name, check in (("encode", _require_images), ("decode", _require_codes)):
        setattr(method, name, partial(_after, check, name, method))
    return method.eval()


def _after(check: Callable[[Method, Any], None], name: str, method: Method, given: Any) -> Any:
    """Calls a function of the class of `method` after a check. A partial of this can be copied and pickled."""
    check(method, given)
    return getattr(type(method), name)(method, given)


def _require_images(method: Method, x: Any) -> None:
    _require(x, "images", method.shape)
    if len(method.shape) == 3 and len(x):
        low, high = (edge.item() for edge in x.detach().aminmax())
        if not (low >= -SLACK and high <= 1 + SLACK):  # NaN fails both
            raise ValueError(f"images must be in [0, 1], got values from {low:g} to {high:g}; scale them")


def _require_codes(method: Method, z: Any) -> None:
    _require(z, "codes", (method.code_dim,))


def _require(given: Any, kind: str, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless `given` is a tensor (B, *shape) of float32."""
    if not isinstance(given, torch.Tensor):
        raise ValueError(f"{kind} must be a torch.Tensor, got {type(given).__name__}; use torch.as_tensor")
    wanted = ", ".join(["B", *map(str, shape)])
    if given.ndim != 1 + len(shape) or tuple(given.shape[1:]) != tuple(shape):
        raise ValueError(f"{kind} must be of shape ({wanted}), got {tuple(given.shape)}")
    if given.dtype != torch.float32:
        how = "x.float() / 255" if given.dtype == torch.uint8 else "x.float()"
        raise ValueError(f"{kind} must be torch.float32, got {given.dtype}; use {how}")


def scatter(points: torch.Tensor) -> torch.Tensor:
    """Draws the first two coordinates of points (N, P) as one picture (1, 1, 128, 128), black on white.

    The picture shows the square from -1.5 to 1.5; points outside are drawn at its edge.
    """
    side, reach = 128, 1.5
    shown = torch.nn.functional.pad(points, (0, 1))[:, :2].detach().cpu().clamp(-reach, reach)  # (N, 2)
    column, row = ((shown * torch.tensor([1, -1]) + reach) / (2 * reach) * (side - 1)).round().long().T  # (N,) each
    picture = torch.ones(1, 1, side, side)
    picture[0, 0, row, column] = 0
    return picture


def save_grid(images: torch.Tensor, path: Path, columns: int = 8) -> None:
    """Writes images (N, C, H, W) in [0, 1], C of 1 or 3, as one PNG; enlarges small ones without smoothing.

    Points (N, P) become one picture. torchvision can do this for images, but its import takes each process of a sweep
    two seconds.
    """
    if images.ndim == 2:
        images = scatter(images)
    scale = max(1, 64 // images.shape[-1])
    pixels = (255 * images.detach().cpu().clamp(0, 1)).round().byte()
    pixels = pixels.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    n, channels, height, width = pixels.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    down, right = height + GAP, width + GAP
    sheet = torch.full((channels, GAP + rows * down, GAP + columns * right), 255, dtype=torch.uint8)
    for i, picture in enumerate(pixels):
        top, left = GAP + i // columns * down, GAP + i % columns * right
        sheet[:, top : top + height, left : left + width] = picture
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.permute(1, 2, 0).squeeze(-1).numpy()).save(path)
