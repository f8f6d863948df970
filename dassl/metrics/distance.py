"""Pairwise distances between rows."""

import torch
import torch.nn.functional as F


def euclidean_squared_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(n, d) and (m, d) -> (n, m)"""
    return torch.cdist(a, b) ** 2


def cosine_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(n, d) and (m, d) -> (n, m), 1 - cosine"""
    return 1 - F.normalize(a, dim=1) @ F.normalize(b, dim=1).t()


def compute_distance_matrix(a: torch.Tensor, b: torch.Tensor, metric: str = "euclidean") -> torch.Tensor:
    metrics = {"euclidean": euclidean_squared_distance, "cosine": cosine_distance}
    if metric not in metrics:
        raise ValueError(f"The metric {metric!r} is unknown: choose one of {', '.join(metrics)}.")
    return metrics[metric](a, b)
