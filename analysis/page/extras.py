"""Optional contents of a sweep's folder that the report shows: a confirmation, importances, rungs, budgets."""

from dataclasses import dataclass

import pandas as pd

from analysis.budget import budgets
from analysis.confirm import confirmed, points
from analysis.join import confirmation
from analysis.load import Sweep
from analysis.recipes import Comparison, comparisons

IMPORTANCES, RUNGS = "importances.csv", "rungs.csv"


@dataclass(frozen=True)
class Confirmed:
    """A confirmation measured by one recipe, with its points and its table."""

    comparison: Comparison
    points: pd.DataFrame
    table: pd.DataFrame


@dataclass(frozen=True)
class Extras:
    """Optional contents of a sweep's folder: a confirmation with its tables, importances, rungs, and budgets."""

    confirmation: Sweep | None
    confirmed: list[Confirmed]
    importances: pd.DataFrame
    rungs: pd.DataFrame
    budgets: pd.DataFrame

    @property
    def is_confirmed(self) -> bool:
        """Whether a confirmation is finished."""
        return self.confirmation is not None and self.confirmation.meta["outcome"] == "done"

    @classmethod
    def of(cls, sweep: Sweep) -> "Extras":
        latest, tables = confirmation(sweep), []
        for comparison in comparisons(latest) if latest is not None else ():
            table = confirmed(comparison.sweep)
            if len(table):
                of_it = table["dataset"] == comparison.dataset
                tables.append(Confirmed(comparison, points(comparison.sweep), table[of_it]))
        importances, rungs = _table(sweep, IMPORTANCES), _table(sweep, RUNGS)
        return cls(latest if tables else None, tables, importances, rungs, budgets(sweep))


def _table(sweep: Sweep, name: str) -> pd.DataFrame:
    """Read a table by study from the sweep's folder, or from those of all its parts; without rows if there is none."""
    found = []
    for label, part in (sweep.parts or {"": sweep}).items():
        if (part.folder / name).exists():
            table = pd.read_csv(part.folder / name)
            found.append(table.assign(study=(f"{label}/" if label else "") + table["study"]))
    return pd.concat(found) if found else pd.DataFrame(columns=["study", "knob", "importance"])
