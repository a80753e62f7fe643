"""Patients' records: where they come from and how they are split by patient."""
