"""The sweep: `python sweep/run.py` on a laptop, `ray submit cluster.yaml sweep/run.py` on a cluster.

Compares methods on data sets: Ray Tune schedules, Optuna searches from the papers' hand-tuned points,
successive halving stops what is hopeless, MLflow keeps every row. Without arguments: five methods on
scikit-learn's digits, a few minutes, no network.
"""

import sys
from pathlib import Path

if Path(sys.path[0], "presets").exists():
    sys.path.pop(0)  # run as a script from a checkout: our modules are `sweep.record`, never a bare `record`

try:
    from sweep.commands.run import front_door
except KeyboardInterrupt:  # the imports take seconds
    raise SystemExit(130) from None

if __name__ == "__main__":
    front_door(__doc__)
