"""Arithmetic on tensors: private gradients, local steps, visits, cuts, replicas, evaluation."""
