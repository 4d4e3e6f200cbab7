"""The tables of the pages come from the measured files."""

import pandas as pd
import pytest

from analysis.papers import pages


def test_every_page_shows_what_its_files_hold():
    assert pages.stale() == []


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.name)
def test_no_page_has_a_typed_table(page):
    outside = pages.MARKED.sub("", page.read_text(encoding="utf-8"))
    assert not [line for line in outside.splitlines() if line.lstrip().startswith("|")]
    assert "<!--" not in outside  # a marker that nothing fills


def test_every_measured_file_is_shown():
    shown = " ".join(page.read_text(encoding="utf-8") for page in pages.PAGES)
    assert [file.name for file in pages.MEASURED.glob("*.csv") if file.name not in shown] == []


def test_a_changed_value_makes_the_page_stale_and_the_command_writes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pages, "MEASURED", tmp_path)
    monkeypatch.setattr(pages, "ANALYSIS", tmp_path)
    page, file = tmp_path / "gae.md", tmp_path / "gae_table4.csv"
    monkeypatch.setattr(pages, "PAGES", [page])
    pd.DataFrame({"method": ["GAE"], "point": ["first"], "printed_ratio": [0.93], "ratio": [0.88]}).to_csv(file)
    page.write_text("before\n<!-- table: gae_table4 gae_table4.csv -->\n<!-- end -->\nafter\n", encoding="utf-8")
    pages.main([])
    assert page.read_text(encoding="utf-8").splitlines()[2:6] == [
        "| seconds over the VAE's | print | ours |",
        "|---|---|---|",
        "| GAE | 0.93 | 0.88 |",
        "<!-- end -->",
    ]
    pages.main(["--check"])
    page.write_text(page.read_text(encoding="utf-8").replace("0.88", "0.78"), encoding="utf-8")  # typed
    with pytest.raises(SystemExit) as stopped:
        pages.main(["--check"])
    assert stopped.value.code == 2
    assert "run the command without --check" in capsys.readouterr().err
    assert "0.78" in page.read_text(encoding="utf-8")  # --check wrote nothing


def test_a_page_names_what_it_lacks():
    with pytest.raises(ValueError, match="no table 'nothing'; choose from confirmed"):
        pages.filled("<!-- table: nothing -->\n<!-- end -->")
    with pytest.raises(ValueError, match=r"has no absent\.csv"):
        pages.filled("<!-- table: confirmed absent.csv -->\n<!-- end -->")


def test_a_print_of_other_images_keeps_their_name(tmp_path):
    file = tmp_path / "cifar.csv"
    rows = [("cifar10-jpeg", method, printed, ours) for method, printed, ours in (("vae", 400, 100), ("gae", 200, 25))]
    pd.DataFrame(rows, columns=["dataset", "method", "printed", "hand_tuned"]).to_csv(file)
    header, *_, ours = pages.gae_first_points(file).splitlines()
    theirs, here = ("CIFAR-10: print (FID)", "CIFAR-10: print / VAE"), ("ours (fcd)", "ours / VAE")
    assert header == f"|  | {' | '.join(theirs)} | {' | '.join(f'CIFAR-10 (JPEG): {words}' for words in here)} |"
    assert ours == "| GAE | 200 | 0.50 | 25.0 | 0.25 |"


def test_a_fixed_gamma_is_set_beside_the_learned_one():
    table = pages.gamma_fixed(pages.MEASURED / "regularization_table2.csv")
    assert "| print, CelebA-64 | 60.5 | 59.6 | 0.99 | 20.2 | 69.6 | 3.44 |  |  |" in table
