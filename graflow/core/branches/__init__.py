"""What a member of a group drags along, and how it runs apart from its run."""
