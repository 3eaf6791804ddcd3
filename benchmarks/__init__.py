"""Seeded traffic, shared with the tests, and the benchmarks: speed as a ratio to something measured in the same run."""
