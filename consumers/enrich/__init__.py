"""What a hit says about its visitor's software, page, campaign and channel: pure functions with bounded caches."""
