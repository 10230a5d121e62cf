"""How tasks travel: by the name under which they can be found, or as code."""
