"""The documents: their command lines are ones that we read, their Python imports what there is, and the site builds."""

import ast
import re
import shlex
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from sweep.commands import program
from sweep.commands.run import RunFlags
from sweep.config import read_config
from trainables.__main__ import Settings
from trainables.flags import read_flags

ROOT = Path(__file__).parents[1]
OTHERS = (
    "README.md",
    "CONTRIBUTING.md",
    "sweep/driver/clusters.md",
    "trainables/metrics/README.md",
    "analysis/README.md",
)
DOCUMENTS = [*OTHERS, *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r'^( *)```(\w+)(?: title="([^"]+)")?\n(.*?)^ *```', re.MULTILINE | re.DOTALL)


def blocks(document: str, *languages: str) -> list[tuple[str | None, str]]:
    """Title and text of the fenced blocks in these languages."""
    found = BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))
    return [(title or None, text) for _, language, title, text in found if language in languages]


def commands(text: str) -> list[list[str]]:
    """The words of the calls of Python in the lines of a shell; what is left to its variables is left out."""
    parts = (part for line in re.sub(r"\\\n\s*", " ", text).splitlines() for part in line.split(" && "))
    calls = [
        shlex.split(part, comments=True)
        for part in parts
        if re.search(r"python|sweep/run\.py", part) and "$" not in part
    ]
    inner = [shlex.split(word) for words in calls for word in words if word.startswith("python -m ")]  # of ray exec
    return [[word for word in words if word != "..."] for words in calls + inner]


def read(words: list[str]) -> None:
    """Reads a call with the program that it names, and runs nothing. Raises ValueError, or a CycloptsError."""
    if "sweep/run.py" in words:
        flags = [word for word in words[words.index("sweep/run.py") + 1 :] if word not in ("--", "--help")]
        read_config(RunFlags, flags, "sweep/run.py", "")
    elif "-m" in words:
        module, *flags = words[words.index("-m") + 1 :]
        if find_spec(module) is None:
            raise ValueError(f"there is no module {module}")
        if module == "sweep":
            program().parse_args(flags, exit_on_error=False, print_error=False)
        elif module == "trainables" and flags != ["--networks"]:
            read_flags(Settings, flags, module, "", positional=["method"])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_command_lines_are_ones_that_we_read(document, tmp_path, monkeypatch):
    """A file that a document shows, with its name as the title, is there for the commands of that document."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / document).read_text(encoding="utf-8")
    for title, content in blocks(document, "yaml"):
        if title:
            Path(title).write_text(content)
    fenced = [text for _, text in blocks(document, "bash", "sh")]
    quoted = re.findall(r"`(python [^`\n]+)`", text)
    wrong = []
    for words in commands("\n".join(fenced + quoted)):
        try:
            read(words)
        except Exception as error:
            wrong.append(f"{' '.join(words)}\n    {error}")
    assert not wrong, "\n".join(wrong)


def test_a_wrong_command_line_is_found():
    for line in (
        "python sweep/run.py --trails 8",
        "python -m sweep extend sweeps/A",
        "python -m trainables.evaluation A",
    ):
        (words,) = commands(line)
        with pytest.raises(Exception, match=r"trails|trials|eval"):
            read(words)


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if blocks(name, "python")])
def test_python_imports_what_there_is(document):
    for _, source in blocks(document, "python"):
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    import_module(alias.name)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    assert hasattr(import_module(node.module), alias.name), f"{node.module} has no {alias.name}"
        for node in ast.walk(tree):  # what is asked of a sweep
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in ("sweep", "Sweep")
            ):
                assert hasattr(import_module("sweep.api").Sweep, node.attr), f"a Sweep has no {node.attr}"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="needs pip install '.[docs]'")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    configuration = (site / "reference/configuration/index.html").read_text(encoding="utf-8")
    missing = [name for name in RunFlags.model_fields if f"<code>{name}</code>" not in configuration]
    assert not missing
    assert "sweep.api.Sweep.winner" in (site / "reference/python/index.html").read_text(encoding="utf-8")
