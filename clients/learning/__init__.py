"""Arithmetic on tensors: private gradients, local steps, visits, cuts, replicas, evaluation."""

import os

# MKL, which torch multiplies matrices with, rounds a row otherwise at some places of a matrix on
# some processors, unless it is told to be reproducible. It reads this at its first product;
# `device_check.check_company` sees whether that came too late.
os.environ.setdefault("MKL_CBWR", "AUTO")
