"""Who may import whom. Read from the source, so an import inside a function counts as well."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("analysis", "search_spaces", "sweep", "trainables")
WITH_RAY = ("actors", "executor", "nodes", "signs", "worker")
ROOMS = sorted({path.stem for path in (ROOT / "sweep").glob("[a-z]*") if path.name != "run.py"})


@cache
def imports(source: str, package: str) -> frozenset[str]:
    """Dotted names that source imports, wherever in it; `from a import b` gives both a and a.b.

    package: dotted name of the package that the source lies in, to which its relative imports belong.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call):
            function = getattr(node.func, "attr", getattr(node.func, "id", ""))
            named = [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            if function in ("import_module", "__import__"):
                found |= set(named)
    return frozenset(found)


def offenders(where: str, banned: tuple[str, ...], spared: tuple[str, ...] = ()) -> list[str]:
    """The files under `where` that import something banned, except under the spared paths."""
    shown = []
    for path in sorted([ROOT / where] if where.endswith(".py") else (ROOT / where).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(spared):
            continue
        package = ".".join(path.relative_to(ROOT).parts[:-1])
        for imported in sorted(imports(path.read_text(encoding="utf-8"), package)):
            if any(imported == ban or imported.startswith(f"{ban}.") for ban in banned):
                shown.append(f"{name} imports {imported}")
    return shown


ARROWS = [
    ("trainables", ("ray", "optuna", "mlflow", "pandas", "sweep", "analysis", "search_spaces"), ()),
    ("analysis", ("torch", "torchvision", "ray", "optuna", "mlflow", "trainables"), ()),
    *(("analysis", (f"sweep.{room}",), ()) for room in ROOMS if room != "record"),
    ("sweep/record", ("torch", "ray", "optuna", "mlflow", "pandas", "analysis"), ()),
    ("sweep/record", ("trainables",), ("sweep/record/log.py",)),  # a writer locks
    ("sweep/record/log.py", ("torch", "ray", "trainables.datasets", "trainables.methods", "analysis"), ()),
    *(("sweep/record", (f"sweep.{room}",), ()) for room in ROOMS if room != "record"),
    ("sweep", ("ray",), tuple(f"sweep/driver/{name}.py" for name in WITH_RAY)),
    ("sweep", ("optuna",), ("sweep/search/",)),
    ("sweep", ("mlflow",), ("sweep/tracking/",)),
    ("trainables/losses.py", ("trainables.method", "trainables.methods"), ()),
    ("trainables/metrics", ("trainables.method", "trainables.methods", "trainables.training"), ()),
    ("trainables/datasets", ("trainables.method", "trainables.methods"), ()),
    ("trainables/datasets", ("torch",), ("trainables/datasets/_files.py",)),
    *((package, ("tests", "conftest", "pytest"), ()) for package in PACKAGES),
]


@pytest.mark.parametrize("where, banned, spared", ARROWS, ids=lambda part: part if isinstance(part, str) else "")
def test_no_arrow_points_the_wrong_way(where, banned, spared):
    assert (ROOT / where).exists()
    assert not offenders(where, banned, spared)


def test_methods_do_not_import_one_another():
    folder = ROOT / "trainables/methods"
    stems = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    assert "vae" in stems
    for stem in stems:
        others = tuple(f"trainables.methods.{other}" for other in stems if other != stem)
        assert not offenders(f"trainables/methods/{stem}.py", others)


@pytest.mark.parametrize(
    "source, name",
    [
        ("import ray", "ray"),
        ("import ray.tune as t", "ray.tune"),
        ("from ray import tune", "ray.tune"),
        ("def f():\n    from ray.tune import report", "ray.tune"),
        ("if TYPE_CHECKING:\n    import ray", "ray"),
        ("import_module('ray')", "ray"),
        ("importlib.import_module('ray.tune')", "ray.tune"),
        ("from . import b", "house.room.b"),
        ("from .b import c", "house.room.b"),
        ("from ..losses import mmd", "house.losses"),
    ],
)
def test_every_form_of_import_is_seen(source, name):
    assert name in imports(source, "house.room")


def test_a_name_with_the_same_beginning_is_allowed(tmp_path, monkeypatch):
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "a.py").write_text("import rayon\nfrom torchvision import io\n")
    (tmp_path / "house" / "b.py").write_text("import torch.nn\n")
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    assert offenders("house", ("ray", "torch")) == ["house/b.py imports torch.nn"]
    assert offenders("house", ("torch",), ("house/b.py",)) == []
