"""The table of methods is what its program writes today."""

import pytest

from sweep.commands import methods_page
from sweep.commands.methods_page import PAGE, equation, measured_by, page, paper, printed_in, status
from trainables import names


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m sweep methods-page"


def test_every_method_has_a_row():
    rows = [line for line in page().splitlines() if line.startswith("| [")]
    assert [row.partition(".py)<br>`")[2].partition("`")[0] for row in rows] == names()
    assert {row.replace("\\|", "").count("|") for row in rows} == {8}


@pytest.mark.parametrize("name", names())
def test_every_file_begins_with_paper_and_equation(name):
    assert "methods.md" in paper(name)
    assert equation(name)[0]


@pytest.mark.parametrize(
    "name, tables",
    [
        ("beta_vae", ["gae_table3", "gae_table4"]),
        ("vg", ["vaegan_table1", "vaegan_table2"]),
        ("vg_denoise_bn", ["vaegan_table3", "vaegan_table4"]),
        ("iaae_kld", [f"aae_table{i}" for i in range(1, 6)]),
    ],
)
def test_where_a_method_is_printed(name, tables):
    assert printed_in(name) == tables


def test_tables_of_one_command_stand_together():
    assert status("vg_bn") == "vaegan_table1, vaegan_table2: `python -m trainables.reproductions.vg`"


def test_rows_with_a_preset_of_their_own_name_it():
    assert status("rae_sn") == "balancing_table4: `sweep/run.py --preset balancing-table4-rae`"
    assert status("two_stage_vae").endswith("balancing_table5: `sweep/run.py --preset balancing-table5`")


def test_a_program_that_has_ended_is_reported(monkeypatch):
    monkeypatch.setitem(methods_page.PROGRAMS, "vaegan_table1", "trainables.gone")
    with pytest.raises(ValueError, match=r"program trainables\.gone does not exist"):
        measured_by("vaegan_table1", "vg")
    monkeypatch.setitem(methods_page.PRESETS, "gae_table3", "gone")
    with pytest.raises(ValueError, match="no preset gone"):
        measured_by("gae_table3", "vae")
