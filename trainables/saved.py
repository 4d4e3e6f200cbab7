"""A trained method on disk: weights as safetensors and its configuration as JSON, loadable without pickle."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torchvision.utils import make_grid, save_image

from trainables.catalog import find
from trainables.config import Config
from trainables.method import Method


def save(method: Method, config: Config, folder: Path) -> None:
    """Writes model.safetensors and config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous().cpu() for name, tensor in method.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    description = {"config": config.model_dump(mode="json"), "shape": list(method.shape)}
    (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n")


def load(folder: str | Path, device: str | torch.device = "cpu") -> Method:
    """The method saved in a folder, ready to `sample(n)`, `reconstruct(x)` and `encode(x)`.

    Raises ValueError when the folder holds no saved method.
    """
    folder = Path(folder)
    try:
        description = json.loads((folder / "config.json").read_text())
        config = Config(**description["config"])
        state = load_file(folder / "model.safetensors", device=str(device))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{folder} holds no saved method ({error})") from error
    method = find(config.method)(config.hyper, tuple(description["shape"])).to(device)
    method.load_state_dict(state)
    return method.eval()


def save_grid(images: torch.Tensor, path: Path, columns: int = 8) -> None:
    """Images (N, C, H, W) in [0, 1] as one PNG; small ones are enlarged without smoothing."""
    scale = max(1, 64 // images.shape[-1])
    images = images.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(make_grid(images, nrow=columns, padding=2, pad_value=1.0), path)
