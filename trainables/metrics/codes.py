"""Classification from codes, and the agreement of clusters of codes with classes.

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
OF_CLUSTERS = ("nmi_error", "ari_error")


def class_errors(codes: Tensor, labels: np.ndarray, held_out: Tensor, held_out_labels: np.ndarray) -> dict[str, float]:
    """Returns error rates of classifiers on frozen codes, fitted to codes (N, D) and scored on held_out (M, D).

    probe_error: of a logistic regression on standardised codes; knn_error: of a vote of the 5 nearest neighbours
    among unscaled codes. Labels are int64 (N,) and (M,). Raises ValueError if there is only one class.
    """
    x, y = codes.double().cpu().numpy(), held_out.double().cpu().numpy()
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=PROBE_STEPS))
    vote = KNeighborsClassifier(min(NEIGHBOURS, len(x)))
    fitted = {"probe_error": probe, "knn_error": vote}
    with catch_warnings(action="ignore", category=ConvergenceWarning):  # the number of steps is part of the recipe
        return {name: 1 - float(model.fit(x, labels).score(y, held_out_labels)) for name, model in fitted.items()}


def cluster_agreement(codes: Tensor, labels: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Compares k-means clusters of codes (M, D), as many as classes, with the labels, int64 (M,).

    nmi: normalised mutual information, 0 to 1; ari: adjusted Rand index, about 0 to 1; nmi_error and ari_error are 1
    minus these. k-means uses the best of 4 starts.
    """
    with catch_warnings(action="ignore", category=ConvergenceWarning):  # collapsed: fewer points than clusters
        clusters = KMeans(len(np.unique(labels)), n_init=4, random_state=seed).fit_predict(codes.double().cpu().numpy())
    nmi = float(normalized_mutual_info_score(labels, clusters))
    ari = float(adjusted_rand_score(labels, clusters))
    return {"nmi": nmi, "ari": ari, "nmi_error": 1 - nmi, "ari_error": 1 - ari}
