"""Pages for browsers without scripts: questions to people with their forms, and the way in."""
