"""What others make of two folders of pictures with our file of weights: the references of tests and benchmarks."""

import importlib.util
import warnings
from pathlib import Path
from unittest.mock import patch

import torch

Values = dict[str, float]


def pytorch_fid(fake: str, real: str, weights: Path) -> Values:
    from pytorch_fid import fid_score
    from pytorch_fid import inception as library

    state = torch.load(weights, weights_only=True)
    with patch.object(library, "load_state_dict_from_url", lambda *_, **__: state):
        return {"fid": fid_score.calculate_fid_given_paths([fake, real], 50, "cpu", 2048, num_workers=0)}


def clean_fid(fake: str, real: str, weights: Path) -> Values:
    """Its mode legacy_pytorch; its own mode downloads a network."""
    from cleanfid import fid
    from cleanfid import inception_pytorch as library

    state = torch.load(weights, weights_only=True)
    with patch.object(library, "load_state_dict_from_url", lambda *_, **__: state):
        options = {"mode": "legacy_pytorch", "num_workers": 0, "use_dataparallel": False, "verbose": False}
        return {"fid": fid.compute_fid(fake, real, device=torch.device("cpu"), **options)}


def torch_fidelity(fake: str, real: str, weights: Path) -> Values:
    """It resizes and scales as the graph of 2015 did, for which our name is fid_tensorflow1."""
    from torch_fidelity import calculate_metrics

    n = len(list(Path(fake).iterdir()))
    found = calculate_metrics(
        input1=fake, input2=real, feature_extractor="inception-v3-compat",  # its precision and recall want VGG-16
        feature_extractor_weights_path=str(weights), cuda=False, cache=False, verbose=False, batch_size=50,
        isc=True, fid=True, kid=True, prc=True, isc_splits=1, kid_subsets=1, kid_subset_size=n,
        prc_neighborhood=5,
    )  # fmt: skip
    return {
        "fid_tensorflow1": found["frechet_inception_distance"],
        "fid_tensorflow1_kid": found["kernel_inception_distance_mean"],
        "fid_tensorflow1_precision": found["precision"],
        "fid_tensorflow1_recall": found["recall"],
        "fid_tensorflow1_inception_score": found["inception_score_mean"],
    }


PROGRAMS = {"pytorch_fid": pytorch_fid, "cleanfid": clean_fid, "torch_fidelity": torch_fidelity}  # by their module


def values_of(program: str, fake: str, real: str, weights: Path) -> Values:
    """The values that a program gives, by our names for them; none where it is not installed."""
    if importlib.util.find_spec(program) is None:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their own, of new versions of their libraries
        return PROGRAMS[program](fake, real, weights)
