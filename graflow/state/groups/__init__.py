"""Members of groups, as stores keep them and tell of them."""
