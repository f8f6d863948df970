"""Accuracy and distances."""

from .accuracy import compute_accuracy as compute_accuracy
from .distance import compute_distance_matrix as compute_distance_matrix
from .distance import cosine_distance as cosine_distance
from .distance import euclidean_squared_distance as euclidean_squared_distance
