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
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import replace as with_changes
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image  # comes with matplotlib

from analysis.budget import budgets, space_words
from analysis.confirm import (
    BETTER,
    HAND_TUNED,
    alone_words,
    confirmed,
    gains_words,
    gap_words,
    looks_words,
    mean_words,
    points,
    verdict,
)
from analysis.fronts import front
from analysis.join import confirmation, differences, read_sweeps
from analysis.load import Study, Sweep
from analysis.page import drawing, plots
from analysis.page.names import (
    bare_method,
    dataset_name,
    duration,
    listed,
    measured,
    method_name,
    metric_name,
    readable,
    short_knob,
    short_metric,
)
from analysis.profiles import FEWEST, NOT_DETERMINED, TOO_FEW, balances, rules
from analysis.ranks import among, best_points, ranks
from analysis.recipes import Comparison, comparisons, require_one_recipe, yardsticks
from analysis.tables import (
    OUTCOMES,
    USES,
    beyond_noise,
    change_words,
    changed_words,
    count_words,
    hand_tuned_words,
    headline,
    leaderboard,
    mixed_datasets,
    networks_words,
    outcome_words,
    replace,
    spaced,
)

REPORT, COMPARISON, IMPORTANCES, RUNGS = "report.html", "comparison.html", "importances.csv", "rungs.csv"
TEMPLATES = Path(__file__).parent / "templates"
CONFIG_WORDS = {"samples": "images sampled per distance", "searcher": "searcher", "seed": "seed"}
USE_WORDS = {
    "probe_error": "linear probe, error",
    "knn_error": "5 neighbours, error",
    "nmi": "clusters, NMI",
    "ari": "clusters, ARI",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "memorisation": "memorisation",
}
WALKS = {
    "interpolations": "Interpolation between images in equal steps of their codes.",
    "traversals": "Traversals of one code: a row for each of the most varying latents, from its 5 % to 95 % quantile.",
    "nearest_training_images": "Each sample, followed by its nearest training image.",
}
LARGEST_GRID = 544  # pixels; a page of forty grids stays below two megabytes
WHAT_A_FLAG_SAYS = {
    "few_images": "Distances from no more images than features, which are too large",
    "collapsed": "Samples that hardly differ from each other",
    "posterior_collapse": "Codes that are independent of the image",
    "sigma_collapse": "Encoders whose noise has vanished",
}
WHAT_A_METRIC_IS = {
    "fcd": (
        "fcd, the Fréchet classifier distance, compares the mean and covariance of the features of a small classifier "
        "of this data set on sampled and real validation images. 0 is a perfect match. It is not FID and not on FID's "
        "scale: compare it within one data set of this report, never with a published FID."
    ),
    "fsd": (
        "fsd, the Fréchet distance of self-supervised features, compares the mean and covariance of the features of a "
        "small network, trained on the training images without labels, on sampled and real validation images. 0 is a "
        "perfect match. It is not FID and specific to these images: compare it within one data set of this report."
    ),
    "fd_dinov2": (
        "fd_dinov2 is the Fréchet distance between sampled and real validation images in the features of DINOv2, with "
        "the resize of Stein et al. (2023). 0 is a perfect match. It depends on the number of images and on the size "
        "of the network."
    ),
    "cmmd": (
        "cmmd is 1000 times the squared maximum mean discrepancy between the CLIP embeddings of sampled and real "
        "validation images (Jayasumana et al., 2024). 0 is a perfect match. Its bias depends on the number of images."
    ),
    "probe_error": (
        "probe_error is the share of validation images whose class is misclassified from their codes by a logistic "
        "regression fitted to the codes of training images."
    ),
    "knn_error": (
        "knn_error is the share of validation images whose class is misclassified by the 5 nearest training images in "
        "code space."
    ),
    "fid": (
        "fid is the Fréchet distance between sampled and real validation images in the features of Inception, "
        "with the network and weights of pytorch-fid. 0 is a perfect match. It depends on the number of "
        "images and on how they were resized: compare it within one data set of this report; published FIDs "
        "often follow another recipe."
    ),
}


def write_report(
    *folders: str | Path, out: str | Path | None = None, commands: Mapping[str, str] | None = None
) -> Path:
    """Write the page of one sweep, or of several joined sweeps, atomically, and return its path.

    out: the file; defaults to report.html in the sweep's folder, or comparison.html in the current folder for several.
    commands: next commands, as {description: command}; None uses the standard ones. Raises ValueError if a folder has
    no record, or if `out` would overwrite the page of one of several sweeps.
    """
    sweep = read_sweeps(folders)
    path = Path(out or (COMPARISON if sweep.parts else sweep.folder / REPORT)).absolute()
    for label, part in sweep.parts.items():
        if path.resolve() == part.folder / REPORT:
            raise ValueError(f"{path} is the page of {label}; give another --out FILE.html")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: folder {path.parent} does not exist; create it, or give another --out FILE.html")
    page = render(sweep, commands)
    replace(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return path


def render(sweep: Sweep, commands: Mapping[str, str] | None = None) -> str:
    """Return the page as text."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    board = leaderboard(sweep)
    broken: list[str] = []
    more = _More.of(sweep)
    sections = [
        _section(sweep, comparison, more, board, f"data-{place}", broken)
        for place, comparison in enumerate(comparisons(sweep))
    ]
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        name=sweep.name,
        style=Markup(style),
        script=Markup(script),
        script_digest=digest,
        headline=headline(board, _gains_words(more), _leader_words(board, more)),
        confirmed=_confirmed_words(more),
        ranked=_ranked_words(sweep, board, more),
        facts=_facts(sweep),
        warnings=[*_warnings(sweep), *_warnings_of_confirmation(more), *broken],
        parts=[_part(label, part) for label, part in sweep.parts.items()],
        sections=sections,
        metrics=[WHAT_A_METRIC_IS[m] for m in _metrics(sweep) if m in WHAT_A_METRIC_IS],
        trials=_trials(sweep, board),
        trial_count=len(sweep.trials),
        recipe=_together(sweep, _recipe),
        config=_together(sweep, lambda part: _flat(part.config)),
        commands=_commands(sweep, board) if commands is None else commands,
        date=_date(sweep.meta["started"]),
    )


@dataclass(frozen=True)
class _Confirmed:
    """A confirmation measured by one recipe, with its points and its table."""

    comparison: Comparison
    points: pd.DataFrame
    table: pd.DataFrame


@dataclass(frozen=True)
class _More:
    """Optional contents of a sweep's folder: a confirmation with its tables, importances, rungs, and budgets."""

    confirmation: Sweep | None
    confirmed: list[_Confirmed]
    importances: pd.DataFrame
    rungs: pd.DataFrame
    budgets: pd.DataFrame

    @property
    def is_confirmed(self) -> bool:
        """Whether a confirmation is finished."""
        return self.confirmation is not None and self.confirmation.meta["outcome"] == "done"

    @classmethod
    def of(cls, sweep: Sweep) -> "_More":
        latest, tables = confirmation(sweep), []
        for comparison in comparisons(latest) if latest is not None else ():
            table = confirmed(comparison.sweep)
            if len(table):
                of_it = table["dataset"] == comparison.dataset
                tables.append(_Confirmed(comparison, points(comparison.sweep), table[of_it]))
        importances, rungs = _table(sweep, IMPORTANCES), _table(sweep, RUNGS)
        return cls(latest if tables else None, tables, importances, rungs, budgets(sweep))


def _table(sweep: Sweep, name: str) -> pd.DataFrame:
    """Read a table by study from the sweep's folder, or from those of all its parts; without rows if there is none."""
    found = []
    for label, part in (sweep.parts or {"": sweep}).items():
        if (part.folder / name).exists():
            table = pd.read_csv(part.folder / name)
            found.append(table.assign(study=(f"{label}/" if label else "") + table["study"]))
    return pd.concat(found) if found else pd.DataFrame(columns=["study", "importance"])


def data_uri(path: Path) -> str:
    """Return a PNG grid as a small data URI: shrunk to LARGEST_GRID, in 16 greys or at most 256 colours; "" if missing.

    Raises ValueError, with the file, if it is not an image.
    """
    if not path.is_file():
        return ""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except OSError as error:
        raise ValueError(f"{path} is not a readable image ({error}); delete it or create it again") from None
    if max(picture.size) > LARGEST_GRID:
        picture.thumbnail((LARGEST_GRID, LARGEST_GRID), Image.Resampling.LANCZOS)
    red, green, blue = picture.split()
    grey = red.tobytes() == green.tobytes() == blue.tobytes()
    picture = red.quantize(16) if grey else picture.quantize(256)
    return drawing.png_uri(picture)


def _section(
    sweep: Sweep, comparison: Comparison, more: _More, board: pd.DataFrame, anchor: str, broken: list[str]
) -> dict:
    """Return the section of a data set, or of its values measured by one recipe; errors of unreadable images are added
    to `broken`."""
    shown, dataset = comparison.sweep, comparison.dataset
    here = (board["metric"] == comparison.metric) & (board["recipe"] == comparison.recipe)
    board = board[here | (board["dataset"] != dataset)]
    rows = [_row(sweep, shown, row, broken) for row in board[board["dataset"] == dataset].itertuples()]
    names = {row["study"] for row in rows}
    blocks = [found for block in more.confirmed if (found := _of_studies(block, dataset, names)) is not None]
    alone = blocks[0].comparison.sweep if len(blocks) == 1 else None
    pictures = [
        (
            plots.distance_against_time(shown, dataset),
            "Distance against training time: lower left is better.",
        ),
        (
            plots.distance_against_parameters(shown, dataset),
            "Distance against the total number of parameters of a method's networks.",
        ),
        (
            plots.best_so_far(shown, dataset),
            "Best distance after each further trial; a flat line found nothing better.",
        ),
        (
            plots.best_against_seconds(shown, dataset),
            "The same against device seconds, which include slow and diverging trials.",
        ),
        (
            plots.expected_best_by_trials(shown, dataset),
            "Expected best distance of a random search with k trials: the unbiased mean over all subsets of size k.",
        ),
        (
            plots.pareto_front(front(shown, alone, dataset), shown, dataset),
            "Solid: not dominated by another point in distance, mse, training seconds and active dimensions. "
            "Hollow: hand-tuned.",
        ),
        (
            plots.rate_distortion(shown, dataset),
            "Rate and distortion: nats of the code against the error of reconstructions.",
        ),
        (
            plots.active_dimensions(shown, dataset),
            "Active latent dimensions against the balance knob; dashed: the hand-tuned value.",
        ),
    ]
    name = dataset_name(dataset)
    budgets = more.budgets[more.budgets["study"].isin(names)]
    return {
        "name": name,
        "apart": comparison.apart,
        "anchor": anchor,
        "metric": short_metric(comparison.metric),
        "metric_name": metric_name(comparison.metric),
        "networks": networks_words(board[board["dataset"] == dataset]),
        "arrows": _svg(plots.arrows(board, dataset), f"Hand-tuned to tuned on {name}"),
        "real": next(filter(None, (_grid(f / "real" / f"{dataset}.png", broken) for f in _folders(sweep))), ""),
        "rows": rows,
        "confirmed": [_confirmed(shown, block, dataset) for block in blocks],
        "uses": _uses(shown, board[board["dataset"] == dataset]),
        "balances": [_balance(shown, row) for row in balances(shown).itertuples() if row.study in names],
        "rules": [_rule(shown, row) for row in rules(shown).itertuples() if row.study in names],
        "budgets": [_budget(shown, row) for row in budgets.itertuples()],
        "pictures": [(_svg(figure, caption), caption) for figure, caption in pictures if figure is not None],
        "studies": [_study(shown, more, shown.studies[row["study"]], row, broken) for row in rows],
    }


def _folders(sweep: Sweep) -> list[Path]:
    return [part.folder for part in sweep.parts.values()] or [sweep.folder]


def _of_studies(block: _Confirmed, dataset: str, studies: set[str]) -> _Confirmed | None:
    """Return the share of a confirmation that belongs to these studies and has means; None if there is none."""
    table = block.table[block.table["study"].isin(studies)]
    if block.comparison.dataset != dataset or not table["mean"].notna().any():
        return None
    whole = block.comparison.sweep
    kept = {name: study for name, study in whole.studies.items() if name in studies}
    share = whole.share(whole.trials[whole.trials["study"].isin(studies)], kept, whole.recipes)
    trained = block.points[block.points["study"].isin(studies)]
    return _Confirmed(with_changes(block.comparison, sweep=share), trained, table)


def _row(sweep: Sweep, shown: Sweep, row, broken: list[str]) -> dict:
    """Format a leaderboard row, with its grids; `shown` is the share of the sweep that is compared here."""
    counts = {outcome: getattr(row, outcome) for outcome in OUTCOMES}
    kinds = {"hand": ("hand_tuned", "samples"), "tuned": ("winners", "samples")}
    kinds["reconstructions"] = ("winners", "reconstructions")
    best = sweep.best(row.study)
    drawn = best is None or best["trial"] == row.tuned_trial  # else the winner was measured by another recipe
    folder, study = sweep.home(row.study)
    return {
        "study": row.study,
        "method": method_name(row.method),
        "colour": plots.method_style(row.method, shown.methods)[0],
        "hand": hand_tuned_words(row),
        "hand_number": math.isfinite(row.hand_tuned),
        "tuned": measured(row.tuned) if row.complete else "none complete",
        "tuned_number": math.isfinite(row.tuned),
        "change": change_words(row),
        "better": row.improvement_percent >= 0.5 and beyond_noise(row.difference, row.noise),
        "changed": changed_words(row),
        "kept": row.tuned == row.tuned and row.tuned_trial == row.hand_tuned_trial,
        "mse": _pair(row.mse_hand_tuned, row.mse_tuned, measured),
        "active": _pair(row.active_dims_hand_tuned, row.active_dims_tuned, readable),
        "balance": _label_pair(row.balance_hand_tuned, row.balance_tuned),
        "seconds": _pair(row.train_seconds_hand_tuned, row.train_seconds_tuned, measured),
        "parameters": count_words(row.parameters),
        "epoch": measured(row.epoch_seconds),
        "speed": count_words(row.images_per_second),
        "network": row.network,
        "carried": row.carried,
        "spent": duration(row.worker_seconds),
        "knobs": row.knobs_searched,
        "trials": row.trials,
        "outcomes": outcome_words(row),
        "counts": {outcome: count for outcome, count in counts.items() if count},
        "grids": {
            kind: _grid(folder / owner / study / f"{what}.png", broken) if drawn or kind == "hand" else ""
            for kind, (owner, what) in kinds.items()
        },
    }


def _grid(path: Path, broken: list[str]) -> str:
    """Return a grid for the page. A damaged image becomes a warning, so that the report is still written."""
    try:
        return data_uri(path)
    except ValueError as error:
        broken.append(str(error))
        return ""


def _confirmed(sweep: Sweep, block: _Confirmed, dataset: str) -> dict:
    """Format the confirmation of a data set by one recipe, with its plot."""
    rows = [
        {
            "method": method_name(row.method),
            "colour": plots.method_style(row.method, sweep.methods)[0],
            "point": "hand-tuned, kept" if row.role == "both" else row.point,
            "tuned": row.role != HAND_TUNED,
            "mean": mean_words(row),
            "seeds": f"{row.seeds}" + (f", {row.failed} failed" if row.failed else ""),
            "searched": measured(row.searched),
            "gap": gap_words(row),
            "mse": measured(row.mse),
            "active": measured(row.active_dims),
            "seconds": measured(row.train_seconds),
            "alone": alone_words(row),
            "verdict": verdict(row),
            "won": verdict(row) == BETTER,
        }
        for row in block.table.itertuples()
    ]
    figure = plots.confirmed_points(block.points, block.table, dataset)
    return {
        "rows": rows,
        "apart": block.comparison.apart,
        "picture": _svg(figure, f"Confirmed distances on {dataset_name(dataset)}"),
        "among": among(block.points, block.table),
    }


def _uses(sweep: Sweep, board: pd.DataFrame) -> dict:
    """Format the metrics of codes and samples of each study's best point, for columns with any value."""
    names = [name for name in USES if board[f"{name}_tuned"].notna().any()]
    rows = [
        {
            "method": method_name(row.method),
            "colour": plots.method_style(row.method, sweep.methods)[0],
            "cells": [measured(getattr(row, f"{name}_tuned")) for name in names],
        }
        for row in board.itertuples()
    ]
    return {"names": [USE_WORDS[name] for name in names], "rows": rows if names else []}


def _balance(sweep: Sweep, row) -> dict:
    """Format a row of `profiles.balances`."""
    cells = {
        "method": method_name(row.method),
        "colour": plots.method_style(row.method, sweep.methods)[0],
        "knob": row.knob,
        "hand": "–" if pd.isna(row.knob_hand_tuned) else readable(row.knob_hand_tuned),
        "trials": row.trials,
    }
    words = {TOO_FEW: f"{TOO_FEW}, at least {FEWEST} required", NOT_DETERMINED: "the data do not determine the optimum"}
    cells["says"] = words.get(row.optimum_is, row.optimum_is)
    if row.optimum_is == TOO_FEW:
        return cells | {"optimum": "–", "flat": "–", "cost": "–"}
    cost = "–"
    if not math.isnan(row.cost_percent):
        cost = f"+{row.cost_percent:.0f} % [{row.cost_low:.0f}, {row.cost_high:.0f}]"
    return cells | {
        "optimum": f"{measured(row.optimum)} [{measured(row.optimum_low)}, {measured(row.optimum_high)}]",
        "flat": f"{measured(row.flat_low)} to {measured(row.flat_high)}",
        "cost": cost,
    }


def _rule(sweep: Sweep, row) -> dict:
    return {
        "method": method_name(row.method),
        "colour": plots.method_style(row.method, sweep.methods)[0],
        "set_by": row.set_by,
        "hand": measured(row.hand_tuned),
        "tuned": measured(row.tuned),
        "trials": row.trials,
    }


def _budget(sweep: Sweep, row) -> dict:
    return {
        "method": method_name(row.method),
        "colour": plots.method_style(row.method, sweep.methods)[0],
        "trials": row.trials,
        "epochs": row.epochs if math.isnan(row.budget_epochs) else f"{row.epochs} of {row.budget_epochs:.0f}",
        "seconds": duration(row.device_seconds),
        "diverged": "–" if math.isnan(row.divergence_rate) else f"{100 * row.divergence_rate:.0f} %",
        "space": space_words(row),
    }


def _study(sweep: Sweep, more: _More, study: Study, row: dict, broken: list[str]) -> dict:
    best = sweep.best(study.name)
    folder, own = sweep.home(study.name)
    walks = [(_grid(folder / "winners" / own / f"{name}.png", broken), words) for name, words in WALKS.items()]
    pictures = [
        (
            plots.parallel_coordinates(sweep, study.name),
            "Each curve is a trial; a stronger colour means a smaller distance. Grey trials ended early.",
        ),
        (
            plots.balance_profiles(sweep, study.name),
            "Fitted distance against the balance, minimised over the other knobs, with its 95 % interval. The bar "
            "marks values within 5 % of the lowest distance; dashed: the hand-tuned value.",
        ),
        (plots.slices(sweep, study.name), "Distance against each knob; dashed: the hand-tuned value."),
        (
            plots.knob_importances(more.importances, study, sweep.methods),
            "Importance of each knob for reaching the best trials (PED-ANOVA), with all trials compared at one epoch.",
        ),
        (plots.learning_curves(sweep, study.name), "Distance at the rungs; grey trials were stopped there."),
    ]
    knobs = [
        (
            knob,
            _range(spec),
            readable(study.hand_tuned.get(knob)),
            "–" if best is None else readable(best.get(f"hyper/{knob}")),
        )
        for knob, spec in study.space.items()
    ]
    return {
        "row": row,
        "source": study.hand_tuned_source,
        "knobs": knobs,
        "epochs": study.epochs,
        "rungs": [_rung(row) for row in more.rungs[more.rungs["study"] == study.name].itertuples()],
        "walks": [(picture, words) for picture, words in walks if picture],
        "pictures": [
            (_svg(figure, f"{row['method']}: {caption}"), caption) for figure, caption in pictures if figure is not None
        ],
    }


def _rung(row) -> tuple[int, int, int, int, str]:
    """Epoch, trials that came, that were stopped, that were spared, and the correlation with the end in words."""
    known = math.isfinite(row.correlation)
    words = f"{row.correlation:.2f} [{row.low:.2f}, {row.high:.2f}]" if known else "not known"
    return row.epoch, row.came, row.stopped, row.spared, words


def _svg(figure: Figure, title: str) -> Markup:
    """Return SVG for the page, with a label for screen readers."""
    name = Markup.escape(title)
    return Markup(drawing.themed_svg(figure).replace('role="img"', f'role="img" aria-label="{name}"', 1))


def _range(spec: Mapping) -> str:
    if "value" in spec:
        return f"{readable(spec['value'])}, fixed"
    if "choices" in spec:
        return "one of " + ", ".join(readable(choice) for choice in spec["choices"])
    return f"{readable(spec['low'])} to {readable(spec['high'])}{', log' if spec.get('log') else ''}"


def _pair(before: float, after: float, said: Callable[[float], str]) -> str:
    return f"{said(before)} → {said(after)}" if math.isfinite(before) or math.isfinite(after) else "–"


def _label_pair(before: str, after: str) -> str:
    """Format two balance labels of `analysis.page.labels`, or one if they are equal; a dash for none."""
    return " → ".join(dict.fromkeys(label or "–" for label in (before, after)))


def _metrics(sweep: Sweep) -> list[str]:
    return list(dict.fromkeys(short_metric(study.metric) for study in sweep.studies.values()))


def _facts(sweep: Sweep) -> list[tuple[str, str]]:
    """Return the size of the sweep, as (number, unit)."""
    trials, meta = sweep.trials, sweep.meta
    counts = {outcome: int(trials["state"].isin(states).sum()) for outcome, states in OUTCOMES.items()}
    facts = [(str(len(sweep.studies)), "studies"), (str(len(trials)), "trials")]
    facts += [(str(count), spaced(outcome)) for outcome, count in counts.items() if count]
    if not sweep.parts:
        facts.append((duration(meta["finished"] - meta["started"]), "from start to end"))
    facts.append((duration(trials["worker_seconds"].sum()), "of total trial time"))
    return facts


def _warnings(sweep: Sweep) -> list[str]:
    """Return warnings about the validity of the results."""
    warnings = []
    for label, part in (sweep.parts or {"": sweep}).items():
        which, of = (f"Sweep {label}", f" of {label}") if label else ("This sweep", "")
        if part.meta["outcome"] != "done":
            warnings.append(f"{which} is not finished ({part.meta['outcome']}); the results below are preliminary.")
        warnings += _by_hand(part, of)
        for name, entry in part.meta["readings"].items():
            warnings += [f"{dataset_name(name)}{of}: {doubt}." for doubt in entry["doubts"]]
        for name, entry in part.meta["resolutions"].items():
            warnings += (
                [f"{dataset_name(name)}{of}: {entry['words']}."] if "words" in entry else []
            )  # not in old records
        if count := part.meta["unreadable_lines"]:
            lines, verb = (f"{count} line", "was") if count == 1 else (f"{count} lines", "were")
            warnings.append(f"{lines} of the record{of} could not be read, e.g. after a crash, and {verb} skipped.")
    warnings += differences(sweep)
    for dataset in sweep.datasets:
        metrics = dict.fromkeys(study.metric for study in sweep.studies_of(dataset))
        for metric in metrics:
            try:
                require_one_recipe(sweep, dataset, metric)
            except ValueError as error:
                warnings.append(f"{str(error).partition('; compare')[0]}. They are shown separately and not ranked.")
        if len(metrics) > 1:
            names = listed([short_metric(metric) for metric in metrics])
            warnings.append(f"{dataset_name(dataset)} was measured by {names}, shown separately and not ranked.")
    diverged = sweep.trials[(sweep.trials["origin"] == "paper") & (sweep.trials["state"] == "diverged")]
    for trial in diverged.itertuples():
        reason = f": {trial.reason}" if trial.reason else ""
        name = f"{method_name(trial.method)} on {dataset_name(trial.dataset)}"
        warnings.append(f"A hand-tuned point of {name} diverged{reason}.")
    return warnings + _flags(sweep)


def _by_hand(sweep: Sweep, of: str) -> list[str]:
    """Return what users changed while the sweep ran; `of` names the sweep where there are several."""
    warnings = []
    for how in ("stopped", "paused"):
        if studies := sweep.meta[how]:
            words = f"Studies {listed(studies)}{of} were" if len(studies) > 1 else f"The study {studies[0]}{of} was"
            warnings.append(f"{words} {how} by hand before the end of the budget, so budgets are not equal.")
    counts = {
        "stopped by hand": int((sweep.trials["state"] == "cancelled").sum()),
        "enqueued by hand": int((sweep.trials["origin"] == "enqueued").sum()),
    }
    for what, count in counts.items():
        if count:
            warnings.append(f"{count} {'trial was' if count == 1 else 'trials were'} {what}{of}.")
    return warnings


def _flags(sweep: Sweep) -> list[str]:
    """Return warnings about flags of complete trials, with their number per study."""
    complete, warnings = sweep.trials[sweep.trials["state"] == "complete"], []
    for flag, words in WHAT_A_FLAG_SAYS.items():
        if f"flag/{flag}" in complete:
            found = complete[complete[f"flag/{flag}"] == 1].groupby(["dataset", "method"], sort=False, observed=True)
            studies = [
                f"{method_name(method)} on {dataset_name(dataset)} ({n})"
                for (dataset, method), n in found.size().items()
            ]
            warnings += [f"{words}: {listed(studies)}; in brackets the number of complete trials."] if studies else []
    return warnings


def _gains_words(more: _More) -> str:
    """Return the result of a finished confirmation on tuned against hand-tuned points; "" without one."""
    return gains_words(pd.concat([block.table for block in more.confirmed])) if more.is_confirmed else ""


def _leader_words(board: pd.DataFrame, more: _More) -> str:
    """Return the result of a finished confirmation on the best method of each data set; "" unless it ranks all once."""
    found = [
        (block.comparison.dataset, among(block.points, block.table)) for block in more.confirmed if more.is_confirmed
    ]
    if sorted(dataset for dataset, words in found if words) != sorted(board["dataset"].unique()):
        return ""
    return " ".join(f"On {dataset_name(dataset)}, {words}" for dataset, words in found)


def _confirmed_words(more: _More) -> str:
    """Summarise a confirmation in one or two sentences; "" if there is none."""
    if more.confirmation is None:
        return ""
    table = pd.concat([block.table for block in more.confirmed])
    said = [verdict(row) for row in table[table["role"] == "tuned"].itertuples()]
    parts = [f"{said.count(words)} {words}" for words in dict.fromkeys(said)]
    kept = int((table["role"] == "both").sum())
    parts += [f"{kept} kept the hand-tuned point"] if kept else []
    confirmations = list(more.confirmation.parts.values()) or [more.confirmation]
    seeds = listed(list(dict.fromkeys(str(len(block.meta["confirms"]["seeds"])) for block in confirmations)))
    looks = ". ".join(dict.fromkeys(looks_words(block.folder.parent) for block in confirmations))
    return f"Tuned against hand-tuned on the test split with {seeds} fresh seeds: {', '.join(parts)}. {looks}."


def _ranked_words(sweep: Sweep, board: pd.DataFrame, more: _More) -> list[str]:
    """Summarise average ranks over several data sets, of tuned values of the search and of confirmed means. Unfinished
    parts are omitted, because a method without a value would rank last."""
    pure = board[~board["dataset"].isin(mixed_datasets(board))]
    done = sweep.meta["outcome"] == "done"
    found = ranks(_everywhere(pure.rename(columns={"tuned": "value"}))) if done else None
    said = [] if found is None else [found.sentence]
    apart = {block.comparison.dataset for block in more.confirmed if block.comparison.apart}
    done = more.confirmation is not None and more.confirmation.meta["outcome"] == "done"
    tables = [block.table for block in more.confirmed if block.comparison.dataset not in apart and done]
    found = ranks(_everywhere(best_points(pd.concat(tables)).rename(columns={"mean": "value"}))) if tables else None
    return said if found is None else [*said, f"Confirmed on the test split: {found.sentence}"]


def _everywhere(table: pd.DataFrame) -> pd.DataFrame:
    """Return the values of methods that were run on every data set, methods by data sets."""
    runs = table.groupby("method")["dataset"].transform("nunique")
    return table[runs == table["dataset"].nunique()].pivot(index="method", columns="dataset", values="value")


def _warnings_of_confirmation(more: _More) -> list[str]:
    if more.confirmation is not None and more.confirmation.meta["outcome"] != "done":
        return [f"The confirmation is not finished ({more.confirmation.meta['outcome']}); its results are preliminary."]
    return []


def _part(label: str, part: Sweep) -> dict:
    """Return a row of the table of joined sweeps."""
    budget = list(dict.fromkeys(f"{study.budget} per study" for study in part.studies.values()))
    if limit := part.config.get("seconds_per_study"):
        budget.append(f"no more trials after {duration(limit)} of a study")
    return {
        "name": label,
        "methods": ", ".join(method_name(method) for method in part.methods),
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
        "started": _date(part.meta["started"]),
        "code": str(part.meta["code"]) or "–",
    }


def _together(sweep: Sweep, tell: Callable[[Sweep], list[tuple[str, str]]]) -> list[tuple[str, str]]:
    """Return the rows of `tell` for a sweep; in a joined sweep, values that differ between parts are listed by part."""
    if not sweep.parts:
        return tell(sweep)
    found: dict[str, dict[str, list[str]]] = {}
    for label, part in sweep.parts.items():
        for key, words in tell(part):
            found.setdefault(key, {}).setdefault(label, []).append(words)
    rows = []
    for key, by_part in found.items():
        values = {label: "; ".join(words) for label, words in by_part.items()}
        alike = len(values) == len(sweep.parts) and len(set(values.values())) == 1
        rows.append((key, next(iter(values.values())) if alike else " · ".join(f"{p}: {v}" for p, v in values.items())))
    return rows


def _trials(sweep: Sweep, board: pd.DataFrame) -> dict:
    """Return every trial as codes and numbers for the page's script; studies in the leaderboard's order."""
    studies = [sweep.studies[name] for name in dict.fromkeys(board["study"])]
    code = {study.name: i for i, study in enumerate(studies)}
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
            }
            for study in studies
        ],
        "rows": rows,
        "beside": None if sweep.parts else "",  # where the folder of trials is, seen from the page
    }


def _short(value):
    """Round a value to the digits that a table shows; None if missing."""
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _recipe(sweep: Sweep) -> list[tuple[str, str]]:
    """Return the reporting checklist of a sweep."""
    studies, meta = list(sweep.studies.values()), sweep.meta
    sources = dict.fromkeys(study.hand_tuned_source for study in studies if study.hand_tuned_source)
    return [
        ("methods", ", ".join(dict.fromkeys(method_name(study.method) for study in studies))),
        ("data sets", ", ".join(dataset_name(dataset) for dataset in sweep.datasets)),
        *((f"{dataset_name(name)} as read", entry["words"]) for name, entry in meta["readings"].items()),
        ("objective", ", ".join(f"{metric_name(m)} ({m})" for m in dict.fromkeys(s.metric for s in studies))),
        *(
            (f"measured on {dataset_name(dataset)}", _words(way))
            for dataset in sweep.datasets
            for metric in dict.fromkeys(study.metric for study in sweep.studies_of(dataset))
            for way in yardsticks(sweep, dataset, metric)
        ),
        ("selection", "lowest objective on the validation split among trials that used their whole budget"),
        ("repeats of the search", "one training run per point: small differences can be chance"),
        *_confirmation_recipe(confirmation(sweep)),
        (
            "search space",
            "; ".join(
                f"{method_name(r.method)} on {dataset_name(r.dataset)}: {space_words(r)}"
                for r in budgets(sweep).itertuples()
            )
            + "; bounds of every knob are listed with its study",
        ),
        (
            "budget",
            "; ".join(dict.fromkeys(f"{study.budget} per study" for study in studies)),
        ),
        *((words, str(sweep.config[key])) for key, words in CONFIG_WORDS.items() if key in sweep.config),
        (
            "early stopping",
            "; ".join(
                dict.fromkeys(
                    f"successive halving at epochs {', '.join(map(str, s.rungs))}" if s.rungs else "none"
                    for s in studies
                )
            ),
        ),
        ("hand-tuned points", "; ".join(sources) or "–"),
        ("machine", _words(meta["machine"])),
        ("versions", _words(meta["versions"])),
        ("code", str(meta["code"]) or "–"),
        ("sweep", str(meta["id"]) + (f", resumed {meta['resumed']} times" if meta["resumed"] else "")),
        ("started", _date(meta["started"])),
    ]


def _confirmation_recipe(found: Sweep | None) -> list[tuple[str, str]]:
    if found is None:
        return [("test split", "not used")]
    claims = found.meta["confirms"]
    kinds = dict.fromkeys((study.dataset, study.metric) for study in found.studies.values())
    ways = [(dataset_name(kind[0]), _words(way)) for kind in kinds for way in yardsticks(found, *kind)]
    return [
        ("test split", looks_words(found.folder.parent)),
        (
            "confirmation",
            f"hand-tuned point and best {claims['top']} of each study, selected on validation, trained with seeds "
            f"{', '.join(map(str, claims['seeds']))} (initialisation, order, samples) on train + validation images",
        ),
        ("intervals", "95 % t interval of the mean over seeds; verdicts by paired t-tests with Holm's correction"),
        *((f"confirmed on {where}", way) for where, way in ways),
    ]


def _words(mapping: object) -> str:
    if isinstance(mapping, Mapping):
        return ", ".join(f"{key} {value}" for key, value in _flat(mapping)) or "–"
    return str(mapping) or "–"


def _flat(mapping: Mapping, prefix: str = "") -> list[tuple[str, str]]:
    """Flatten a nested configuration to (dotted key, text), without the passwords of its addresses."""
    flat = []
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{prefix}{key}.")
        else:
            words = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            flat.append((f"{prefix}{key}", re.sub(r"://[^/@\s]*@", "://…@", words)))  # pages are shared
    return flat


def _commands(sweep: Sweep, board: pd.DataFrame) -> dict[str, str]:
    """Return the next commands for a sweep, by description."""
    commands = {}
    for label, part in (sweep.parts or {"": sweep}).items():
        if part.meta["outcome"] != "done":
            commands[f"resume {label or 'the sweep'}"] = f"python -m sweep resume {_from_here(part.folder)}"
    for row in board[board["tuned"].notna()].head(1).itertuples():
        folder, _ = sweep.home(row.study)
        chosen = f"{_from_here(folder)} {quote(bare_method(row.method))} --dataset {quote(row.dataset)}"
        commands["sample 64 images from a winner"] = f"python -m sweep sample {chosen} -n 64 --out grid.png"
    for store in dict.fromkeys(folder.parent / "mlflow.db" for folder in _folders(sweep)):
        if store.exists():
            commands["compare runs in MLflow"] = (
                f"mlflow ui --backend-store-uri {quote(f'sqlite:///{store.absolute()}')}"
            )
    folders = " ".join(_from_here(folder) for folder in _folders(sweep))
    commands["rewrite this page"] = f"python -m sweep report {folders}"
    joined = os.pathsep.join(str(folder) for folder in _folders(sweep))
    commands["open the tables in a notebook"] = f"SWEEP_FOLDER={quote(joined)} jupyter lab analysis/sweep.ipynb"
    return commands


def _from_here(folder: Path) -> str:
    """Quote a folder for a shell, relative to the current folder if inside it."""
    here = Path.cwd()
    return quote(str(folder.relative_to(here) if folder.is_relative_to(here) else folder))


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%-d %B %Y, %H:%M UTC") if math.isfinite(seconds) else "–"
