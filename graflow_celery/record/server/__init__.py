"""The server that keeps the group record: its client, what that may do, waiting for it, and what is wrong with it."""
