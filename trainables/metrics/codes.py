"""What codes are good for: classes that can be read off them, and clusters in them that are classes.

N, M codes of the training and of the held-out images, D latent.
"""

from __future__ import annotations

from warnings import catch_warnings

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

NEIGHBOURS = 5
MOST = 5000  # codes of a side: more cost a trial's end seconds and hardly move the values
PROBE_STEPS = 300


def class_errors(codes: Tensor, labels: np.ndarray, held_out: Tensor, held_out_labels: np.ndarray) -> dict[str, float]:
    """How often classes are misread from frozen codes: fitted to codes (N, D), scored on held_out (M, D).

    probe_error: the share of held-out images that a logistic regression on standardised codes names wrongly;
    knn_error: that of a vote of 5 nearest neighbours, by the codes' own distances.
    Labels are int64 (N,) and (M,). ValueError: one class alone.
    """
    x, y = codes.double().cpu().numpy(), held_out.double().cpu().numpy()
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=PROBE_STEPS))
    vote = KNeighborsClassifier(min(NEIGHBOURS, len(x)))
    fitted = {"probe_error": probe, "knn_error": vote}
    with catch_warnings(action="ignore", category=ConvergenceWarning):  # the number of steps is part of the recipe
        return {name: 1 - float(model.fit(x, labels).score(y, held_out_labels)) for name, model in fitted.items()}


def cluster_agreement(codes: Tensor, labels: np.ndarray, seed: int = 0) -> dict[str, float]:
    """How far k-means clusters of codes (M, D), as many as classes, are the classes, int64 (M,).

    nmi: normalised mutual information, 0 to 1; ari: Rand index adjusted for chance, about 0 to 1. The best of 4 starts.
    """
    with catch_warnings(action="ignore", category=ConvergenceWarning):  # collapsed codes are fewer points than clusters
        clusters = KMeans(len(np.unique(labels)), n_init=4, random_state=seed).fit_predict(codes.double().cpu().numpy())
    return {
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "ari": float(adjusted_rand_score(labels, clusters)),
    }


def nearest(features: Tensor, others: Tensor, block_size: int = 1000) -> tuple[Tensor, Tensor]:
    """The distance of each of features (n, F) to the nearest of others (m, F), and which that is: (n,), (n,)."""
    found = [torch.cdist(block.double(), others.double()).min(1) for block in features.split(block_size)]
    return torch.cat([block.values for block in found]), torch.cat([block.indices for block in found])


def memorisation(samples: Tensor, held_out: Tensor) -> float:
    """How often a sample is nearer to the training images than a held-out image is: 0.5 where they are alike.

    Of all pairs of a sample and a held-out image, by their distances to the nearest training image, (n,) and (m,);
    ties count half. It is the statistic of Mann and Whitney, as in Meehan et al. (2020). Towards 1 samples are copies;
    below 0.5 they are farther from the training images than real ones.
    """
    ordered = held_out.double().sort().values
    values = samples.double()
    above = len(ordered) - torch.searchsorted(ordered, values, right=True)
    equal = len(ordered) - torch.searchsorted(ordered, values) - above
    return ((above + equal / 2).double().mean() / len(ordered)).item()
