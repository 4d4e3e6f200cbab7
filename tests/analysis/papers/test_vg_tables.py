"""The VG tables beside the print."""

import numpy as np
import pandas as pd
import pytest

from analysis.load import read_published
from analysis.papers.vg import OURS, TABLES, beside_print, codes, main, pictures, plot, printed, read_pictures, text

HEADER = "paper,table,dataset,method,variant,metric,epoch,value,std\n"


@pytest.fixture
def measured(tmp_path):
    path = tmp_path / "measured.csv"
    path.write_text(
        HEADER
        + "VAE-GAN,1,mnist,MLP VAE-GAN,without BatchNorm,test set loss,1,460.6566,\n"
        + "VAE-GAN,4,mnist,denoising MLP VAE-GAN,with BatchNorm,average training loss,1,1,\n"
        + "VAE-GAN,4,mnist,denoising MLP VAE-GAN,with BatchNorm,average training loss,1,373148.0833,\n"
        + 'VAE-GAN,3,mnist,denoising MLP VAE-GAN,with BatchNorm,"test set loss, clean input",1,99.9,\n'
        + "VAE-GAN,1,mnist,MLP VAE-GAN,without BatchNorm,test set loss,99,5.0,\n"
    )
    return path


def test_the_logs_hold_what_the_tables_print():
    log = printed()
    for table in (1, 2, 3, 4):
        for row in read_published("VAE-GAN", table).itertuples():
            same = log.query("method == @row.method and variant == @row.variant and metric == @row.metric")
            assert same.set_index("epoch").value[int(row.epoch)] == pytest.approx(row.value, abs=1e-3)
    assert set(log["epoch"]) == set(range(1, 11))


def test_only_what_both_have_stands_side_by_side(measured):
    found = beside_print([measured])
    assert found["table"].tolist() == ["Table 1", "Table 4"]
    assert found["printed"].tolist() == pytest.approx([230.3283, 373148.0833], abs=1e-3)
    assert found["difference"].tolist() == pytest.approx([100.0, 0.0], abs=1e-4)
    assert "| Table 1 | without BatchNorm | 1 | 230.3 | 460.7 | +100.0 % |" in text(found)


def test_images_of_another_data_set_are_in_no_cell(measured):
    measured.write_text(measured.read_text().replace("mnist", "digits"))
    assert beside_print([measured]).empty


def test_several_files_are_one(measured, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text(HEADER + "VAE-GAN,1,mnist,MLP VAE-GAN,with BatchNorm,test set loss,2,125.578,\n")
    found = beside_print([measured, other])
    assert found["variant"].tolist() == ["without BatchNorm", "with BatchNorm", "with BatchNorm"]


def test_systems_of_several_settings_are_refused(tmp_path):
    """The last file would fill the table, or the first epochs of one that the file before continues."""
    row = "VAE-GAN,1,mnist,MLP VAE-GAN,with BatchNorm,test set loss,{},9.0,,{},0,{}\n"
    ways = {"a": (10, "latent_dim=50"), "b": (10, "latent_dim=100"), "c": (5, "latent_dim=50"), "d": (10, "")}
    for name, (epochs, given) in ways.items():
        text = HEADER.replace("std", "std,epochs,seed,set") + row.format(2, epochs, given)
        (tmp_path / f"{name}.csv").write_text(text)
    assert len(beside_print([tmp_path / "a.csv", tmp_path / "a.csv"])) == 1
    for other, shown in (("b", "set latent_dim=100"), ("c", "epochs 5; seed 0"), ("d", "epochs 10; seed 0; give")):
        with pytest.raises(
            ValueError, match=f"with BatchNorm was trained with epochs 10.* latent_dim=50 and .*{shown}"
        ):
            beside_print([tmp_path / "a.csv", tmp_path / f"{other}.csv"])


def test_the_notebooks_tables_are_of_the_first_points():
    found = beside_print(OURS)
    assert set(zip(found["table"], found["variant"], strict=True)) == {
        (table, variant) for table in TABLES.values() for variant in ("without BatchNorm", "with BatchNorm")
    }
    given = pd.concat([pd.read_csv(file) for file in OURS])["set"]
    assert set(given.dropna()) == {"latent_dim=100"}  # of the denoising systems' first point


def test_the_plot_has_a_panel_for_every_table(measured):
    axes = plot(beside_print([measured])).axes
    assert [a.get_title() for a in axes] == ["Table 1", "Table 2", "Table 3", "Table 4"]
    (dots,) = [line for line in axes[0].lines if line.get_label() == "without BatchNorm, measured"]
    assert dots.get_ydata().tolist() == [460.6566]


def test_another_file_is_refused(tmp_path):
    pd.DataFrame({"a": [1]}).to_csv(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"a\.csv has no column dataset; give a file"):
        beside_print([tmp_path / "a.csv"])


@pytest.fixture
def kept(tmp_path):
    """Files of pictures of a system without noise and of one with it."""
    random = np.random.default_rng(0)
    for name, noisy in (("vg", False), ("vg_denoise", True)):
        image, seen, *others = random.integers(0, 256, (4, 10, 1, 4, 4), np.uint8)
        held = {"image": image, "seen": seen if noisy else image}
        held |= dict(zip(("reconstruction", "sample"), others, strict=True))
        plane = random.normal(size=(30, 2)) * [3, 1]
        about = {"codes": plane @ np.linalg.qr(random.normal(size=(5, 2)))[0].T, "labels": np.arange(30) % 10}
        np.savez(tmp_path / f"{name}.npz", **held, **about, method=name, variant="with BatchNorm", epochs=10)
    return [str(tmp_path / f"{name}.npz") for name in ("vg", "vg_denoise")]


def test_noisy_inputs_are_drawn_between_images_and_reconstructions(kept):
    found = read_pictures(kept)
    clean, noisy = pictures(found).axes
    assert clean.get_title() == "vg, with BatchNorm\nd = 5, 10 epochs"
    assert [label.get_text() for label in clean.get_yticklabels()] == ["test", "decoded", "sample"]
    assert [label.get_text() for label in noisy.get_yticklabels()] == ["test", "noisy", "decoded", "sample"]
    drawn, held = noisy.images[0].get_array(), [*found.values()][1]
    assert drawn.shape == (4 * 5, 10 * 5)  # a grey line below and to the right of each image
    for row, name in enumerate(("image", "seen", "reconstruction", "sample")):
        assert np.array_equal(drawn[5 * row : 5 * row + 4, 10:14], held[name][2, 0])


def test_codes_are_drawn_on_their_two_principal_axes(kept):
    found = read_pictures(kept)
    axes = codes(found).axes
    for ax, held in zip(axes, found.values(), strict=True):
        (points,) = ax.collections
        plane, centred = points.get_offsets(), held["codes"] - held["codes"].mean(0)
        assert (plane**2).sum() == pytest.approx((centred**2).sum())  # codes of two dimensions lose nothing
        assert plane[:, 0].var() > plane[:, 1].var()
        assert list(points.get_array()) == list(held["labels"])


@pytest.mark.slow
def test_the_program_draws_pictures_and_refuses_other_files(kept, measured, tmp_path, refusal):
    main([str(measured), *kept])
    assert all((tmp_path / name).is_file() for name in ("measured.png", "pictures.png", "codes.png"))
    np.savez(tmp_path / "other.npz", a=1)
    assert "other.npz has no image; give a file" in refusal(main, tmp_path / "other.npz")
