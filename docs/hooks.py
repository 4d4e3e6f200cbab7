"""MkDocs hooks that add documents of the repository and generated reference pages to the pages in docs/.

A document stays where its subject is, and DOCUMENTS names its page. Links are paths within the repository, so that they
work in a clone as well; here a link to a document leads to its page, and a link to any other file to a copy of it.
"""

import os
import re
from collections.abc import Iterator
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel

from analysis.page.names import method_name
from sweep.commands import program
from sweep.commands.run import RunFlags
from sweep.search.space import Fixed, Space, load
from trainables import names
from trainables.config import hyper_fields

ROOT = Path(__file__).parents[1]
DOCUMENTS = {
    "index.md": "README.md",
    "how-to/parts.md": "CONTRIBUTING.md",
    "how-to/cluster.md": "sweep/driver/clusters.md",
    "reference/metrics.md": "trainables/metrics/README.md",
    "reference/methods.md": "trainables/methods/README.md",
    "reference/equations.md": "trainables/methods/methods.md",
    "reference/changes.md": "CHANGELOG.md",
    "results/index.md": "analysis/README.md",
    "results/all_methods.md": "analysis/all_methods.md",
    "results/published.md": "analysis/published/README.md",
    **{f"results/{paper.name}": f"analysis/papers/{paper.name}" for paper in (ROOT / "analysis/papers").glob("*.md")},
}
FOLDERS = {"search_spaces": "reference/search-spaces.md", "analysis/published": "results/published.md"}
LINK = re.compile(r'(!?\[(?P<words>[^\]]*)\]\(|<img src=")(?P<target>[^)"#\s]*)(?P<anchor>#[^)"\s]*)?([)"])')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are not in docs/."""
    pages = {page: (ROOT / document).read_text(encoding="utf-8") for page, document in DOCUMENTS.items()}
    pages["reference/command-line.md"] = command_line()
    pages["reference/configuration.md"] = configuration()
    pages["reference/search-spaces.md"] = search_spaces()
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Converts links within the repository to links within the site."""
    here = page.file.src_uri
    origin = ROOT / DOCUMENTS.get(here, f"docs/{here}")

    def within_the_site(link: re.Match) -> str:
        path = Path(os.path.normpath(origin.parent / link["target"]))
        if not link["target"] or ":" in link["target"] or not path.is_relative_to(ROOT) or not path.exists():
            return link[0]  # external, or in the page; MkDocs warns about missing targets
        place = place_of(path, config, files)
        if place is None:
            return link["words"]
        return f"{link[1]}{os.path.relpath(place, Path(here).parent)}{link['anchor'] or ''}{link[5]}"

    return LINK.sub(within_the_site, markdown)


def place_of(path: Path, config: MkDocsConfig, files: Files) -> str | None:
    """Returns the path of a document, or of a copy of another file, in the site; None for folders."""
    name = path.relative_to(ROOT).as_posix()
    pages = FOLDERS | {document: page for page, document in DOCUMENTS.items()}
    if name in pages:
        return pages[name]
    if name.startswith("docs/") and path.suffix == ".md":
        return name.removeprefix("docs/")
    if path.is_dir():
        return None
    copy = f"files/{name}"
    if files.get_file_from_path(copy) is None:
        files.append(File.generated(config, copy, abs_src_path=str(path)))
    return copy


def command_line() -> str:
    """Returns the page of all commands and their arguments, from the command line parser."""
    text = program().generate_docs()
    head = (
        "# Command line\n\n`aesweep` is the same program as `python -m sweep`, and `run` is `python sweep/run.py`.\n\n"
    )
    return head + text[text.index("## python -m sweep ") :]


def configuration() -> str:
    """Returns the page of all fields of a sweep's configuration, in the groups of the help."""
    parts = [
        "# Configuration\n\nEach field is a flag of `sweep/run.py` (`data_root` is `--data-root`), a key of the file "
        "of `--config`, and an argument of `sweep.Sweep.run`. The fields of *In place of a run* are flags and keys "
        "only.\n"
    ]
    groups = dict(RunFlags.groups)
    grouped = " ".join(groups.values()).split()
    groups["In place of a run"] = " ".join(name for name in RunFlags.model_fields if name not in grouped)
    for title, members in groups.items():
        parts += [f"## {title}\n", *table(("field", "default", "meaning"), rows(RunFlags, members.split())), ""]
    return "\n".join(parts)


def rows(model: type[BaseModel], members: list[str]) -> Iterator[tuple[str, str, str]]:
    for name in members:
        field = model.model_fields[name]
        default = field.get_default(call_default_factory=True)
        yield f"`{name}`", "" if default in (None, [], {}) else f"`{written(default)}`", field.description or ""


def search_spaces() -> str:
    """Returns the page of hand-tuned points and ranges of each method, from its TOML file."""
    parts = [
        "# Search spaces\n\nThe hand-tuned points of each method, in the order in which a sweep tries them, and the "
        "ranges that a search draws from. The file of a method is `search_spaces/METHOD.toml`.\n"
    ]
    for method in names():
        space = load(resources("search_spaces") / f"{method}.toml", hyper_fields(method))
        parts += [f"## {method_name(method)}\n", f"`{method}`\n", *searched(space), "", *hand_tuned(space), ""]
    return "\n".join(parts)


def searched(space: Space) -> Iterator[str]:
    lines = []
    for when, dimensions in (("always", space.dimensions), ("with `--search`", space.optional)):
        for name, dimension in dimensions.items():
            if not isinstance(dimension, Fixed):  # fixed values are among the values of the points
                lines.append((f"`{name}`", f"{dimension}", when))
    return table(("hyperparameter", "range", "searched"), lines)


def hand_tuned(space: Space) -> Iterator[str]:
    lines = (
        (
            point.name,
            ", ".join(point.datasets),
            ", ".join(f"`{k} = {written(v)}`" for k, v in point.values.items()),
            point.source,
        )
        for point in space.paper
    )
    return table(("point", "data sets", "values", "source"), lines)


def table(head: tuple[str, ...], lines: Any) -> Iterator[str]:
    """Returns the lines of a Markdown table."""
    for cells in (head, ("---",) * len(head), *lines):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def written(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
