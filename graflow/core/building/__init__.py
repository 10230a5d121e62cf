"""How a workflow is written: which graph operators record into, and how tasks come into it."""
