"""Waiting for a group: in threads and in coroutines, and what a reader has seen of it."""
