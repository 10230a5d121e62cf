"""Hearing: what tasks print and log, kept while they run."""
