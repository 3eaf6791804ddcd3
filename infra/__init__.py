"""Journal, processes, engine and command: what the two wings stand on and what starts them."""
