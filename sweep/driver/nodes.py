"""A Ray cluster before there is a sweep: is its file sound, and what do its nodes say of themselves?"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

SECONDS_TO_ANSWER = 180  # a node may have to start a Python process and import torch first


@dataclass(frozen=True)
class Node:
    name: str
    address: str
    gpus: int  # as Ray counts them
    answer: Any  # what the question returned there; an exception where it raised one or nothing came


def ask_all(question: Callable[..., Any], *arguments: Any) -> list[Node]:
    """Calls `question(*arguments)` on every node of the cluster that we are connected to, also on full ones."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    task = ray.remote(num_cpus=0, max_retries=0)(question)
    asked = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(*arguments)
        for node in alive
    ]
    answered, _ = ray.wait(asked, num_returns=len(asked), timeout=SECONDS_TO_ANSWER)
    answers = [
        _answer(ref) if ref in answered else TimeoutError(f"no answer in {SECONDS_TO_ANSWER} s") for ref in asked
    ]
    return [
        Node(node["NodeManagerHostname"], node["NodeManagerAddress"], int(node["Resources"].get("GPU", 0)), answer)
        for node, answer in zip(alive, answers, strict=True)
    ]


def _answer(ref: ray.ObjectRef) -> Any:
    try:
        return ray.get(ref)
    except Exception as error:  # of the question, of the node, or of Ray
        return error


def read_cluster(path: Path) -> dict[str, Any]:
    """A cluster file as its author wrote it. Raises ValueError if it is none, or Ray would refuse it."""
    # Imported here: not a public name of Ray, and needed for cluster files only.
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray.autoscaler").setLevel(logging.WARNING)  # it tells what it fills in
    try:
        cluster = yaml.safe_load(path.read_text())
        if not isinstance(cluster, dict) or not isinstance(cluster.get("provider"), dict):
            raise ValueError("it has no provider; cluster.yaml and cluster.local.yaml are examples")
        validate_config(prepare_config(cluster))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # of YAML, of jsonschema, of Ray's own checks, bare ones too
        raise ValueError(f"{path}: Ray would refuse it ({getattr(error, 'message', error)})") from None
    return cluster
