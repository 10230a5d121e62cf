"""Batches of members on a worker: what one message holds, how its members run, and what is told of them."""
