"""Tools around the core: Redis settings and drawings."""
