"""Thresholds and morphology: what the models without weights are made of."""
