"""Typed telemetry for the training of growing neural networks."""
