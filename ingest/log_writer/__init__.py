"""The event log as the forwarder writes it: one port, several adapters."""
