"""A run that is written down step by step, as durable flows are."""
