"""From a data set's items to batches."""

from typing import TYPE_CHECKING

from dassl.utils import late_imports

if TYPE_CHECKING:
    from .data_manager import DataManager as DataManager
    from .data_manager import DatasetWrapper as DatasetWrapper

__getattr__, __dir__, __all__ = late_imports(__name__)
