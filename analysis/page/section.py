"""The section of the report on one data set: the leaderboard's rows with their grids, plots, and each study."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace as with_changes
from pathlib import Path

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image  # comes with matplotlib

from analysis.budget import space_words
from analysis.confirm import HAND_TUNED, alone_words, gap_words, mean_words, over_words, verdict, where_words, wins
from analysis.fronts import front, objectives_words
from analysis.load import Study, Sweep
from analysis.page import drawing, plots
from analysis.page.extras import Confirmed, Extras
from analysis.page.names import (
    dataset_name,
    duration,
    measured,
    method_name,
    metric_name,
    readable,
    short_metric,
    split_name,
)
from analysis.page.palette import method_style
from analysis.profiles import FEWEST, NOT_DETERMINED, NOT_POSITIVE, TOO_FEW, balances, rules
from analysis.ranks import among
from analysis.recipes import Comparison
from analysis.tables import (
    OUTCOMES,
    USES,
    beyond_noise,
    change_words,
    changed_words,
    count_words,
    hand_tuned_words,
    is_lower,
    networks_words,
    outcome_words,
    result_words,
)

WALKS = {
    "interpolations": "Interpolation between images in equal steps of their codes.",
    "traversals": "Traversals of one code: a row for each of the most varying latents, from its 5 % to 95 % quantile.",
    "nearest_training_images": "Each sample, followed by its nearest training image.",
}
SURFACES = 5  # number of the best studies of a data set with a fitted surface, which takes a third of a second each
LARGEST_GRID = 544  # pixels; a page of forty grids stays below two megabytes
USE_WORDS = {
    "probe_error": "linear probe, error ↓",
    "knn_error": "5 neighbours, error ↓",
    "nmi": "clusters, NMI ↑",
    "ari": "clusters, ARI ↑",
    "psnr": "PSNR, dB ↑",
    "ssim": "SSIM ↑",
    "memorisation": "memorisation",
    "copies": "copies ↓",
}


def section(
    sweep: Sweep, comparison: Comparison, extras: Extras, board: pd.DataFrame, anchor: str, broken: list[str]
) -> dict:
    """Return the section of a data set, or of its values measured by one recipe; errors of unreadable images are added
    to `broken`."""
    shown, dataset = comparison.sweep, comparison.dataset
    here = (board["metric"] == comparison.metric) & (board["recipe"] == comparison.recipe)
    board = board[here | (board["dataset"] != dataset)]
    rows = [_row(sweep, shown, row, broken) for row in board[board["dataset"] == dataset].itertuples()]
    names = {row["study"] for row in rows}
    blocks = [found for block in extras.confirmed if (found := _of_studies(block, dataset, names)) is not None]
    alone = blocks[0].comparison.sweep if len(blocks) == 1 else None
    points = front(shown, alone, dataset)
    pictures = [
        (
            plots.distance_against_time(shown, dataset),
            "Distance against training time: lower left is better; hollow: hand-tuned.",
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
            plots.pareto_front(points, shown, dataset),
            f"Solid: not dominated by another point in {objectives_words(points)}. Hollow: hand-tuned.",
        ),
        (
            plots.rate_distortion(shown, dataset),
            "Rate and distortion: nats of the code against the error of reconstructions.",
        ),
        (
            plots.active_dimensions(shown, dataset),
            f"Active latent dimensions against the balance knob, at most {plots.PANELS} knobs, the best methods first; "
            "dashed: the hand-tuned value.",
        ),
    ]
    name = dataset_name(dataset)
    fitted = balances(shown)
    fitted = fitted[fitted["study"].isin(names)]
    budgets = extras.budgets[extras.budgets["study"].isin(names)]
    return {
        "name": name,
        "apart": comparison.apart,
        "anchor": anchor,
        "metric": short_metric(comparison.metric),
        "metric_name": metric_name(comparison.metric),
        "split": split_name(comparison.studies[0].split),
        "networks": networks_words(board[board["dataset"] == dataset]),
        "arrows": [
            _svg(plots.arrows(board, dataset, part), f"Hand-tuned to tuned on {name}")
            for part in range(math.ceil(len(rows) / plots.ROWS))
        ],
        "real": next(filter(None, (_grid(f / "real" / f"{dataset}.png", broken) for f in sweep.folders)), ""),
        "rows": rows,
        "confirmed": [_confirmed(shown, block, dataset) for block in blocks],
        "uses": _uses(shown, board[board["dataset"] == dataset]),
        "balances": [_balance(shown, row) for row in fitted.itertuples() if not math.isnan(row.optimum)],
        "too_few": [f"{_knob(row)} ({row.trials})" for row in fitted.itertuples() if row.optimum_is == TOO_FEW],
        "not_positive": [_knob(row) for row in fitted.itertuples() if row.optimum_is == NOT_POSITIVE],
        "fewest": FEWEST,
        "rules": [_rule(shown, row) for row in rules(shown).itertuples() if row.study in names],
        "budgets": [_budget(shown, row) for row in budgets.itertuples()],
        "pictures": [(_svg(figure, caption), caption) for figure, caption in pictures if figure is not None],
        "studies": [
            _study(shown, extras, shown.studies[row["study"]], row, broken, surface=place < SURFACES)
            for place, row in enumerate(rows)
        ],
    }


def _of_studies(block: Confirmed, dataset: str, studies: set[str]) -> Confirmed | None:
    """Return the share of a confirmation that belongs to these studies and has means; None if there is none."""
    table = block.table[block.table["study"].isin(studies)]
    if block.comparison.dataset != dataset or not table["mean"].notna().any():
        return None
    whole = block.comparison.sweep
    kept = {name: study for name, study in whole.studies.items() if name in studies}
    share = whole.share(whole.trials[whole.trials["study"].isin(studies)], kept, whole.recipes)
    trained = block.points[block.points["study"].isin(studies)]
    return Confirmed(with_changes(block.comparison, sweep=share), trained, table)


def _row(sweep: Sweep, shown: Sweep, row, broken: list[str]) -> dict:
    """Format a leaderboard row, with its grids; `shown` is the share of the sweep that is compared here."""
    counts = {outcome: getattr(row, outcome) for outcome in OUTCOMES}
    kinds = {"hand": ("hand_tuned", "samples"), "tuned": ("winners", "samples")}
    kinds["reconstructions"] = ("winners", "reconstructions")
    best = sweep.best(row.study)
    # Else the winner was measured by another recipe, or is the luckiest of several runs of another point.
    drawn = best is None or best["trial"] == row.tuned_trial
    folder, study = sweep.home(row.study)
    return {
        "study": row.study,
        "tuned_trial": row.tuned_trial,
        "method": method_name(row.method),
        "colour": method_style(row.method, shown.methods)[0],
        "result": result_words(row),
        "hand": hand_tuned_words(row),
        "hand_number": math.isfinite(row.hand_tuned),
        "tuned": measured(row.tuned) if row.complete else "none complete",
        "tuned_number": math.isfinite(row.tuned),
        "change": change_words(row),
        "better": is_lower(row) and beyond_noise(row.difference, row.noise),
        "changed": changed_words(row),
        "kept": row.tuned == row.tuned and row.tuned_trial == row.hand_tuned_trial,
        "mse": _pair(row.mse_hand_tuned, row.mse_tuned, measured),
        "active": _pair(row.active_dims_hand_tuned, row.active_dims_tuned, readable),
        "balance": _label_pair(row.balance_hand_tuned, row.balance_tuned),
        "seconds": _pair(row.train_seconds_hand_tuned, row.train_seconds_tuned, measured),
        "parameters": count_words(row.parameters),
        "epoch": measured(row.epoch_seconds),
        "speed": count_words(row.images_per_second),
        "memory": f"{row.peak_mb:,.0f} MB" if row.peak_mb > 0 else "",
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


def _grid(path: Path, broken: list[str]) -> str:
    """Return a grid for the page. A damaged image becomes a warning, so that the report is still written."""
    try:
        return data_uri(path)
    except ValueError as error:
        broken.append(str(error))
        return ""


def _confirmed(sweep: Sweep, block: Confirmed, dataset: str) -> dict:
    """Format the confirmation of a data set by one recipe, with its plot."""
    rows = [
        {
            "method": method_name(row.method),
            "colour": method_style(row.method, sweep.methods)[0],
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
            "won": wins(row),
        }
        for row in block.table.itertuples()
    ]
    figure = plots.confirmed_points(block.points, block.table, dataset, sweep.methods)
    return {
        "rows": rows,
        "apart": block.comparison.apart,
        "where": where_words(block.table),
        "picture": _svg(figure, f"Confirmed distances on {dataset_name(dataset)}"),
        "over": over_words(block.table),
        "among": among(block.points, block.table),
    }


def _uses(sweep: Sweep, board: pd.DataFrame) -> dict:
    """Format the metrics of codes and samples of each study's best point, for columns with any value."""
    names = [name for name in USES if board[f"{name}_tuned"].notna().any()]
    rows = [
        {
            "method": method_name(row.method),
            "colour": method_style(row.method, sweep.methods)[0],
            "cells": [measured(getattr(row, f"{name}_tuned")) for name in names],
        }
        for row in board.itertuples()
    ]
    return {"names": [USE_WORDS[name] for name in names], "rows": rows if names else []}


def _balance(sweep: Sweep, row) -> dict:
    """Format a row of `profiles.balances` with a fit."""
    cells = {
        "method": method_name(row.method),
        "colour": method_style(row.method, sweep.methods)[0],
        "knob": row.knob,
        "hand": "–" if pd.isna(row.knob_hand_tuned) else readable(row.knob_hand_tuned),
        "trials": row.trials,
    }
    undetermined = row.optimum_is == NOT_DETERMINED
    cells["says"] = "the data do not determine the optimum" if undetermined else row.optimum_is
    cost = "–"
    if not math.isnan(row.cost_percent):
        cost = f"+{row.cost_percent:.0f} % [{row.cost_low:.0f}, {row.cost_high:.0f}]"
    return cells | {
        "optimum": f"{measured(row.optimum)} [{measured(row.optimum_low)}, {measured(row.optimum_high)}]",
        "flat": f"{measured(row.flat_low)} to {measured(row.flat_high)}",
        "cost": cost,
    }


def _knob(row) -> str:
    """Name a balance without a fit."""
    return f"{method_name(row.method)} {row.knob}"


def _rule(sweep: Sweep, row) -> dict:
    return {
        "method": method_name(row.method),
        "colour": method_style(row.method, sweep.methods)[0],
        "set_by": row.set_by,
        "hand": measured(row.hand_tuned),
        "tuned": measured(row.tuned),
        "trials": row.trials,
    }


def _budget(sweep: Sweep, row) -> dict:
    return {
        "method": method_name(row.method),
        "colour": method_style(row.method, sweep.methods)[0],
        "trials": row.trials,
        "epochs": row.epochs if math.isnan(row.budget_epochs) else f"{row.epochs} of {row.budget_epochs:.0f}",
        "seconds": duration(row.device_seconds),
        "diverged": "–" if math.isnan(row.divergence_rate) else f"{100 * row.divergence_rate:.0f} %",
        "space": space_words(row),
    }


def _study(sweep: Sweep, extras: Extras, study: Study, row: dict, broken: list[str], *, surface: bool) -> dict:
    folder, own = sweep.home(study.name)
    walks = [(_grid(folder / "winners" / own / f"{name}.png", broken), words) for name, words in WALKS.items()]
    importances = extras.importances[extras.importances["study"] == study.name]
    leading = list(importances.sort_values("importance", ascending=False)["knob"][:2])
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
            plots.surface_of_knobs(sweep, study.name, *leading) if surface and len(leading) == 2 else None,
            "Fitted distance over the two knobs of the largest importance, minimised over the other knobs: the "
            "stronger the colour, the smaller. Points are trials, grey ones ended early, hollow ones are hand-tuned.",
        ),
        (
            plots.knob_importances(extras.importances, study, sweep.methods),
            _importance_words(importances),
        ),
        (plots.learning_curves(sweep, study.name), "Distance at the rungs; grey trials were stopped there."),
    ]
    tuned = sweep.trials[sweep.trials["trial"] == row["tuned_trial"]].to_dict("records")
    knobs = [
        (
            knob,
            _range(spec),
            readable(study.hand_tuned_values.get(knob)),
            readable(tuned[0].get(f"hyper/{knob}")) if tuned else "–",
        )
        for knob, spec in study.space.items()
    ]
    return {
        "row": row,
        "source": study.hand_tuned_source,
        "knobs": knobs,
        "epochs": study.epochs,
        "rungs": [_rung(row) for row in extras.rungs[extras.rungs["study"] == study.name].itertuples()],
        "walks": [(picture, words) for picture, words in walks if picture],
        "pictures": [
            (_svg(figure, f"{row['method']}: {caption}"), caption) for figure, caption in pictures if figure is not None
        ],
    }


def _importance_words(importances: pd.DataFrame) -> str:
    words = "Share of each knob in reaching the best trials (PED-ANOVA)"
    words += "".join(f" for the values at epoch {epoch}" for epoch in importances.get("epoch", [])[:1])
    known = "chance" in importances and importances["chance"].notna().all()
    return f"{words}, where it exceeds 95 % of those of shuffled values." if known else f"{words}."


def _rung(row) -> tuple[int, int, int, int, int, int, str]:
    """Epoch, numbers of trials (came, paused, promoted, ended, spared), and the correlation with the end in words."""
    known = math.isfinite(row.correlation)
    words = f"{row.correlation:.2f} [{row.low:.2f}, {row.high:.2f}]" if known else "not known"
    return row.epoch, row.came, row.paused, row.promoted, row.ended, row.spared, words


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
