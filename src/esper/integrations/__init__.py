"""Telemetry from other people's trainers."""
