"""How kinds of values that JSON does not know are taken apart and made again, and how their classes are found."""
