"""From a data set's items to batches."""

from .data_manager import DataManager as DataManager
from .data_manager import DatasetWrapper as DatasetWrapper
