"""What codes are good for: classes that can be read off them, and clusters in them that are classes.

N, M codes of the training and of the held-out images, D latent.
"""

from __future__ import annotations

from warnings import catch_warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

NEIGHBOURS = 5
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
