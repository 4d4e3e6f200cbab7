"""Run a sweep: `python sweep/run.py` on a laptop, `ray submit cluster.yaml sweep/run.py` on a cluster.

A sweep compares methods on data sets. Ray Tune schedules the trials, Optuna searches from the papers' hand-tuned
points, successive halving stops unpromising trials, and MLflow tracks every epoch. Without arguments it compares
five methods on scikit-learn's digits in a few minutes, without network access.
"""

import sys
from pathlib import Path

if Path(sys.path[0], "presets").exists():
    sys.path.pop(0)  # run as a script from a checkout: modules are imported as `sweep.record`, not as `record`

try:
    from sweep.commands.run import front_door
except KeyboardInterrupt:  # the imports take seconds
    raise SystemExit(130) from None

if __name__ == "__main__":
    front_door(__doc__)
