"""The side that submits groups and waits for them."""
