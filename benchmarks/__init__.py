"""Benchmarks of endmark against the usual padded way. Nothing is timed unless their results agree."""
