"""The VG tables beside the print."""

import pandas as pd
import pytest

from analysis.load import read_published
from analysis.papers.vg import beside_print, plot, printed, text

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


def test_several_files_are_one(measured, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text(HEADER + "VAE-GAN,1,mnist,MLP VAE-GAN,with BatchNorm,test set loss,2,125.578,\n")
    found = beside_print([measured, other])
    assert found["variant"].tolist() == ["without BatchNorm", "with BatchNorm", "with BatchNorm"]


def test_the_plot_has_a_panel_for_every_table(measured):
    axes = plot(beside_print([measured])).axes
    assert [a.get_title() for a in axes] == ["Table 1", "Table 2", "Table 3", "Table 4"]
    (dots,) = [line for line in axes[0].lines if line.get_label() == "without BatchNorm, measured"]
    assert dots.get_ydata().tolist() == [460.6566]


def test_another_file_is_refused(tmp_path):
    pd.DataFrame({"a": [1]}).to_csv(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"a\.csv has no column method; give a file"):
        beside_print([tmp_path / "a.csv"])
