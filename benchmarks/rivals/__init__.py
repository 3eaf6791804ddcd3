"""What people would build instead, written the way the libraries' documentation says."""
