"""Fixtures that any test may ask for, each from its own module of tests/support."""

pytest_plugins = ["support.clickhouse", "support.kafka", "support.simulation"]
