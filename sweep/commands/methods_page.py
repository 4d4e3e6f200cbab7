"""Write trainables/methods/README.md, the table of all methods.

Everything in it is read from its source: equation and paper from the head of the method's file, networks,
knobs and named points from its search space, the printed tables from `analysis/published`, what measures them from
the presets and programs here. `tests/sweep/commands/test_methods_page.py` says when the page is out of date.
"""

import csv
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from analysis.load import PUBLISHED
from analysis.page.names import method_name
from sweep.commands._ending import say
from sweep.config import PRESET_FILES
from sweep.search.space import Space, load
from trainables import Method, find, names
from trainables.config import hyper_fields
from trainables.flags import preset_names, read_preset

PAGE = Path(__file__).parents[2] / "trainables" / "methods" / "README.md"
HEAD = """# The methods

Written by `python -m sweep methods-page` from the methods' files and search spaces; do not edit. Sections are those of
[methods.md](methods.md), which says where every value is from. A knob stands with its hand-tuned value and,
where it is searched, its range; knobs that all methods have (latent size, learning rate, batch, network, clipping,
precision) are left out. The last column is about the tables in which the papers print a method.

| method | paper | equation | networks | knobs | further points | printed in |
|---|---|---|---|---|---|---|
"""
PAPERS = {"2": "gae", "3": "balancing", "4": "aae", "5": "vaegan", "6": "regularization"}  # by section of methods.md
# A method's rows in the print where they are not called as here: method, and a pattern of their variants.
ROWS = {
    "wae": [("WAE", ".*")],
    "two_stage_vae": [("2S-VAE", ".*")],
    "gaussian_vae": [
        ("VAE, residual decoder, learnable gamma", ".*"),
        ("VAE", "learnable gamma"),
        ("VAE", "fixed gamma"),
    ],
    "ae_vae": [("VAE", "|K=.*")],
    "ae_wae": [("WAE-MMD", ".*")],
    "vae_plus": [("VAE+", ".*")],
    "vg": [("MLP VAE-GAN", "without BatchNorm")],
    "vg_bn": [("MLP VAE-GAN", "with BatchNorm")],
    "vg_denoise": [("denoising MLP VAE-GAN", "without BatchNorm")],
    "vg_denoise_bn": [("denoising MLP VAE-GAN", "with BatchNorm")],
}
PRESETS = {"gae_table2": "gae-toy", "gae_table3": "gae-table3", "gae_table4": "gae-table3"}
PRESETS |= {f"aae_table{i}": "aae-tables" for i in (1, 2, 3, 4, 5)}
PRESETS |= {f"balancing_table{i}": f"balancing-table{i}" for i in (1, 2, 3, 4, 5)}
PRESETS |= {f"regularization_table{i}": "regularization-table3" for i in (3, 4)}
PROGRAMS = {f"vaegan_table{i}": "trainables.reproductions.vg" for i in (1, 2, 3, 4)}
PROGRAMS |= {f"regularization_table{i}": "trainables.reproductions.regularization" for i in (1, 2)}


def documents(name: str) -> list[str]:
    """The docstrings at the heads of a method's file and of its family's."""
    return [import_module(kind.__module__).__doc__ for kind in find(name).__mro__ if issubclass(kind, Method)]


def paper(name: str) -> str:
    """What the head of the file has in the parentheses that name a section of methods.md, in one line."""
    words = " ".join(documents(name)[0].split())
    return re.search(r"\(((?:[^()]|\([^()]*\))*methods\.md[^()]*)\)", words)[1]


def equation(name: str) -> list[str]:
    """The first indented lines of the file, or of its family's where it has none."""
    blocks = (part for text in documents(name) for part in text.split("\n\n") if part.startswith("    "))
    return [" ".join(line.split()) for line in next(blocks).splitlines()]


def knobs(name: str, space: Space) -> Iterator[str]:
    """The method's own hyperparameters: hand-tuned value, and range where one is searched."""
    for field, default in find(name).Hyper.model_fields.items():
        if field not in Method.Hyper.model_fields:
            value = space.paper[0].values.get(field, default.default)
            within = f" in {space.dimensions[field]}" if field in space.dimensions else ""
            yield f"`{field}` = {value}{within}"


def networks(space: Space) -> list[str]:
    """The kinds of network at the hand-tuned points."""
    return sorted({str(point.values["network"]) for point in space.paper})


def further_points(space: Space) -> list[str]:
    """The named points beside the paper's, in the order of the file."""
    return list(dict.fromkeys(point.name for point in space.paper if point.name != "paper"))


def printed_in(name: str) -> list[str]:
    """The published tables that have rows of the method, by their files' names."""
    section = re.search(r"methods\.md (\d)", paper(name))
    if section is None or section[1] not in PAPERS:
        return []
    rows = ROWS.get(name, [(method_name(name), ".*")])
    found = []
    for path in sorted(PUBLISHED.glob(f"{PAPERS[section[1]]}_table*.csv")):
        with path.open(newline="") as stream:
            lines = list(csv.DictReader(stream))
        if any(
            line["method"] == method and re.fullmatch(variant, line["variant"])
            for line in lines
            for method, variant in rows
        ):
            found.append(path.stem)
    return found


def measured_by(table: str, name: str) -> str:
    """The command that measures a method's rows of a published table here: the preset or program of the table, or the
    preset whose name adds to it where those rows have one of their own. Raises ValueError where there is none."""
    if table in PRESETS:
        for preset in preset_names(PRESET_FILES):
            if preset.startswith(PRESETS[table]) and name in read_preset(PRESET_FILES, preset)["methods"]:
                return f"`sweep/run.py --preset {preset}`"
        raise ValueError(f"{table}: there is no preset {PRESETS[table]} with {name}; correct PRESETS")
    if table in PROGRAMS:
        if find_spec(PROGRAMS[table]) is None:
            raise ValueError(f"{table}: there is no program {PROGRAMS[table]}; correct PROGRAMS")
        return f"`python -m {PROGRAMS[table]}`"
    return "no preset or program yet"


def status(name: str) -> str:
    """The method's published tables, together where one command measures them."""
    found: dict[str, list[str]] = {}
    for table in printed_in(name):
        found.setdefault(measured_by(table, name), []).append(table)
    return "<br>".join(f"{', '.join(tables)}: {how}" for how, tables in found.items()) or "–"


def row(name: str) -> str:
    """One method as a line of the table."""
    space = load(files("search_spaces") / f"{name}.toml", hyper_fields(name))
    cells = [
        f"[{method_name(name)}]({name}.py)<br>`{name}`",
        paper(name),
        "<br>".join(f"`{line}`" for line in equation(name)),
        "<br>".join(networks(space)),
        "<br>".join(knobs(name, space)) or "–",
        ", ".join(further_points(space)) or "–",
        status(name),
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def page() -> str:
    """The whole page, Markdown."""
    return HEAD + "\n".join(row(name) for name in names()) + "\n"


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    say(str(PAGE))
