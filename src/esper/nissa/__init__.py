"""Delivery: the telemetry hub and the sinks it serves."""
