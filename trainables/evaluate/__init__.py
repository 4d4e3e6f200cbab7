"""A trained method -> numbers and grids; decides nothing. The one code path for search, winners and reports.

    python -m trainables.evaluate sweeps/NAME/winners/gae-mnist --dataset mnist --split test

scores a saved model or a folder of pictures.
"""

from trainables.evaluate.evaluator import GRID, Evaluation, Evaluator
from trainables.evaluate.findings import NotFinite, finite
from trainables.evaluate.samplers import fit_densities

__all__ = ["GRID", "Evaluation", "Evaluator", "NotFinite", "finite", "fit_densities"]
