"""Queues of tasks that wait to run."""
