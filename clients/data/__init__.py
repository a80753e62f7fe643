"""Patients' records: where they come from and how they are split by patient."""

from clients.data.catalogue import DATASETS, load_dataset
from clients.data.cohort import Cohort
from clients.data.cohorts import Cohorts
from clients.data.dataset import Dataset
from clients.data.errors import DataError
from clients.data.records import DatasetInfo, LazyInputs, Records

__all__ = [
    "DATASETS",
    "Cohort",
    "Cohorts",
    "DataError",
    "Dataset",
    "DatasetInfo",
    "LazyInputs",
    "Records",
    "load_dataset",
]
