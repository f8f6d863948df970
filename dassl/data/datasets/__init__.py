"""Items, data sets, and the registry they are found in."""

from .base_dataset import DatasetBase as DatasetBase
from .base_dataset import Datum as Datum
from .build import DATASET_REGISTRY as DATASET_REGISTRY
from .build import build_dataset as build_dataset
