"""The report of a sweep: one self-contained HTML file.

It makes no requests to other machines (its content security policy forbids them), so it can be mailed, archived or
opened from a cluster's disk. Plots are SVG in the page's colours; sample grids are small PNGs inside the page. The
trials are data that a script shows as a plane of two of their values and as a table in pages, so that ten thousand
trials open as fast as ten. A clicked trial is shown with its values, and with its grids if the folder of trials is in
the folder of the page. Everything else works without the script.
"""

import base64
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from shlex import quote

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.join import confirmation, read_sweeps
from analysis.load import Sweep
from analysis.page.checklist import checklist, date, flat, limit_words
from analysis.page.extras import Extras
from analysis.page.names import bare_method, counted, dataset_name, duration, method_name, short_knob, short_metric
from analysis.page.summary import (
    confirmed_words,
    explanations,
    facts_of,
    gains,
    leaders,
    ranked_words,
    warnings_of,
    warnings_of_confirmation,
)
from analysis.recipes import Comparison, comparisons, yardsticks
from analysis.tables import cautions, headline, leaderboard, replace

REPORT, COMPARISON = "report.html", "comparison.html"
TEMPLATES = Path(__file__).parent / "templates"

Shown = Callable[[Sequence[Comparison], str, int], Iterable[Comparison]]


def _unseen(items: Sequence[Comparison], what: str, total: int) -> Iterable[Comparison]:
    return items


def write_report(
    *folders: str | Path,
    out: str | Path | None = None,
    commands: Mapping[str, str] | None = None,
    shown: Shown = _unseen,
) -> Path:
    """Write the page of one sweep, or of several joined sweeps, atomically, and return its path.

    out: the file; defaults to report.html in the sweep's folder, or comparison.html in the current folder for several.
    commands: next commands, as {description: command}; None uses the standard ones.
    shown: yields the comparisons of the page, of which there are `total`, and may show how many are done.
    Raises ValueError if a folder has no record, or if `out` would overwrite the page of one of several sweeps.
    """
    sweep = read_sweeps(folders)
    path = Path(out or (COMPARISON if sweep.parts else sweep.folder / REPORT)).absolute()
    for label, part in sweep.parts.items():
        if path.resolve() == part.folder / REPORT:
            raise ValueError(f"{path} is the page of {label}; give another --out FILE.html")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: folder {path.parent} does not exist; create it, or give another --out FILE.html")
    page = render(sweep, commands, shown)
    replace(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return path


def render(sweep: Sweep, commands: Mapping[str, str] | None = None, shown: Shown = _unseen) -> str:
    """Return the page as text."""
    from analysis.page.section import section  # takes .4 s to import, with matplotlib

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["counted"] = counted
    board = leaderboard(sweep)
    broken: list[str] = []
    extras = Extras.of(sweep)
    compared = comparisons(sweep)
    sections = [
        section(sweep, comparison, extras, board, f"data-{place}", broken)
        for place, comparison in enumerate(shown(compared, "report", len(compared)))
    ]
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        name=sweep.name,
        style=Markup(style),
        script=Markup(script),
        script_digest=digest,
        headline=headline(board, gains(extras), leaders(board, extras)),
        confirmed=confirmed_words(extras),
        ranked=ranked_words(sweep, board, extras),
        facts=facts_of(sweep),
        warnings=[*cautions(board), *warnings_of(sweep), *warnings_of_confirmation(board, extras), *broken],
        parts=[_part(label, part) for label, part in sweep.parts.items()],
        sections=sections,
        metrics=explanations(sweep),
        trials=_trials(sweep, board),
        trial_count=len(sweep.trials),
        recipe=_together(sweep, checklist),
        config=_together(sweep, lambda part: flat(part.config)),
        commands=_commands(sweep, board) if commands is None else commands,
        date=date(sweep.meta["started"]),
    )


def _part(label: str, part: Sweep) -> dict:
    """Return a row of the table of joined sweeps."""
    budget = [*dict.fromkeys(f"{study.budget} per study" for study in part.studies.values()), *limit_words(part)]
    return {
        "name": label,
        "methods": ", ".join(dict.fromkeys(method_name(study.method) for study in part.studies.values())),
        "datasets": ", ".join(dataset_name(dataset) for dataset in part.datasets),
        "budget": "; ".join(budget),
        "searcher": str(part.config.get("searcher", "–")),
        "trials": len(part.trials),
        "seconds": duration(part.trials["worker_seconds"].sum()),
        "recipe": "; ".join(
            dict.fromkeys(
                f"{short_metric(metric)} of {way.get('n', '?')} images"
                for dataset in part.datasets
                for metric in dict.fromkeys(study.metric for study in part.studies_of(dataset))
                for way in yardsticks(part, dataset, metric)
            )
        ),
        "outcome": str(part.meta["outcome"]),
        "started": date(part.meta["started"]),
        "code": str(part.meta["code"]) or "–",
    }


def _together(sweep: Sweep, tell: Callable[[Sweep], list[tuple[str, str]]]) -> list[tuple[str, str]]:
    """Return the rows of `tell` for a sweep; in a joined sweep, values that differ between parts are listed by part."""
    if not sweep.parts:
        return tell(sweep)
    found: dict[str, dict[str, list[str]]] = {}
    parts = {label: part for label, part in sweep.parts.items() if part.studies}
    for label, part in parts.items():
        for key, words in tell(part):
            found.setdefault(key, {}).setdefault(label, []).append(words)
    rows = []
    for key, by_part in found.items():
        values = {label: "; ".join(words) for label, words in by_part.items()}
        alike = len(values) == len(parts) and len(set(values.values())) == 1
        rows.append((key, next(iter(values.values())) if alike else " · ".join(f"{p}: {v}" for p, v in values.items())))
    return rows


def _trials(sweep: Sweep, board: pd.DataFrame) -> dict:
    """Return every trial as codes and numbers for the page's script; studies in the leaderboard's order."""
    studies = [sweep.studies[name] for name in dict.fromkeys(board["study"])]
    code = {study.name: i for i, study in enumerate(studies)}
    evaluated = _evaluated(sweep)
    columns = [[f"hyper/{knob}" for knob in study.searched] for study in studies]
    rows = []
    for trial in sweep.trials.to_dict("records"):
        study = code[trial["study"]]
        rows.append(
            [
                study,
                trial["number"],
                str(trial["origin"]),
                trial["state"],
                _short(trial["value"]),
                trial["epochs"],
                _short(trial["worker_seconds"]),
                [_short(trial[column]) for column in columns[study]],
                trial["reason"],
            ]
        )
    return {
        "studies": [
            {
                "name": f"{method_name(study.method)} · {dataset_name(study.dataset)}",
                "id": study.name,
                "knobs": [short_knob(knob) for knob in study.searched],
                "evaluated": evaluated.get(study.name, []),
            }
            for study in studies
        ],
        "rows": rows,
        "beside": None if sweep.parts else "",  # where the folder of trials is, seen from the page
    }


def _evaluated(sweep: Sweep) -> dict[str, list[int]]:
    """Return the epochs at which some trial of a study was evaluated, by study."""
    of = sweep.trials.set_index("trial")["study"]
    metrics = {study.metric for study in sweep.studies.values()}
    curves = sweep.curves[sweep.curves["metric"].isin(metrics)]
    by_study = curves.groupby(curves["trial"].astype(str).map(of))["epoch"].unique()
    return {study: sorted(map(int, epochs)) for study, epochs in by_study.items()}


def _short(value):
    """Round a value to the digits that a table shows; None if missing."""
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _commands(sweep: Sweep, board: pd.DataFrame) -> dict[str, str]:
    """Return the next commands for a sweep, by description."""
    commands = {}
    for label, part in (sweep.parts or {"": sweep}).items():
        if part.meta["outcome"] != "done":
            commands[f"resume {label or 'the sweep'}"] = f"python -m sweep resume {_from_here(part.folder)}"
        elif part.config.get("split", "valid") == "valid" and confirmation(part) is None:
            what = (
                f"train the best points{f' of {label}' if label else ''} with new seeds, score them on the test split"
            )
            commands[what] = f"python -m sweep confirm {_from_here(part.folder)}"
    for row in board[board["tuned"].notna()].head(1).itertuples():
        folder, _ = sweep.home(row.study)
        chosen = f"{_from_here(folder)} {quote(bare_method(row.method))} --dataset {quote(row.dataset)}"
        commands["sample 64 images from a winner"] = f"python -m sweep sample {chosen} -n 64 --out grid.png"
    for store in dict.fromkeys(folder.parent / "mlflow.db" for folder in sweep.folders):
        if store.exists():
            commands["compare runs in MLflow"] = (
                f"mlflow ui --backend-store-uri {quote(f'sqlite:///{store.absolute()}')}"
            )
    folders = " ".join(_from_here(folder) for folder in sweep.folders)
    commands["rewrite this page"] = f"python -m sweep report {folders}"
    joined = os.pathsep.join(str(folder) for folder in sweep.folders)
    commands["open the tables in a notebook"] = f"SWEEP_FOLDER={quote(joined)} jupyter lab analysis/sweep.ipynb"
    return commands


def _from_here(folder: Path) -> str:
    """Quote a folder for a shell, relative to the current folder if inside it."""
    here = Path.cwd()
    return quote(str(folder.relative_to(here) if folder.is_relative_to(here) else folder))
