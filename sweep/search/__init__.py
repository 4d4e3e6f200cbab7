"""What a sweep tries: search spaces, studies and rungs."""
