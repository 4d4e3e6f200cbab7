"""The images of the row "Downsample"."""

import numpy as np
import pytest
import torch

from trainables.datasets import load
from trainables.reproductions.downsample import downsampled, main


def test_flat_images_stay_as_they_are():
    flat = torch.arange(0, 250, 10, dtype=torch.uint8)[:, None, None, None].expand(25, 3, 8, 8)
    for antialias in (True, False):
        assert torch.equal(downsampled(flat, antialias=antialias), flat)


def test_what_two_pixels_cannot_hold_is_gone_and_the_filter_matters():
    """Stripes one pixel wide become grey away from the edges; wide ones stay but for their borders."""
    fine = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    fine[..., ::2] = 255
    assert (downsampled(fine)[..., 4:-4].int() - 128).abs().max() <= 1
    wide = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    wide[..., 8:] = 255
    back = downsampled(wide)
    assert torch.equal(back[..., :5], wide[..., :5]) and torch.equal(back[..., -5:], wide[..., -5:])
    ramp = torch.randint(0, 256, (4, 1, 16, 16), dtype=torch.uint8)
    assert not torch.equal(downsampled(ramp, "bicubic"), downsampled(ramp))
    assert not torch.equal(downsampled(ramp, antialias=False), downsampled(ramp))


def test_the_file_holds_the_test_images(tmp_path, capsys):
    out = tmp_path / "made" / "small.npy"
    main(["--dataset", "digits", "--out", str(out), "--images", "40"])
    saved, originals = np.load(out), load("digits", "unused").test.images[:40]
    assert np.array_equal(saved, downsampled(torch.tensor(originals)).numpy())
    sse = ((saved.astype(float) - originals) ** 2).sum() / 40 / 255**2
    assert f"squared error {sse:.4g} per image" in capsys.readouterr().out


def test_points_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^cosine has no images"):
        main(["--dataset", "cosine", "--out", str(tmp_path / "a.npy")])
