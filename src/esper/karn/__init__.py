"""Readers: the aggregator, and the views over its snapshot."""
