"""Logs from elsewhere as runs: those of untyped dicts, by a map, and exports."""
