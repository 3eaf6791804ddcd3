"""The event log as workers read it: one port, several adapters."""
