"""How far a disease has progressed, learnt at several hospitals."""
