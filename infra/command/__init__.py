"""The command `hitstream`: the only place that wires the wings together."""
