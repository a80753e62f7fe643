"""Patients' records: where they come from and how they are split by patient."""

from clients.data.catalogue import DATASETS, load_dataset
from clients.data.cohort import Cohort, load_cohort
from clients.data.errors import DataError
from clients.data.records import Dataset, DatasetInfo, LazyInputs, Records

__all__ = [
    "DATASETS",
    "Cohort",
    "DataError",
    "Dataset",
    "DatasetInfo",
    "LazyInputs",
    "Records",
    "load_cohort",
    "load_dataset",
]
