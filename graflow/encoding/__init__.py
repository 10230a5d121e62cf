"""Values and errors as JSON data and back, bounded in what they cost, without pickle."""
