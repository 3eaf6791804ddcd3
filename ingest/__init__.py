"""The edge: HTTP hit to durable spool to event log. Never parses a URL or an agent, never waits on a network."""
