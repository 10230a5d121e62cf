"""What a checkpoint is made of: its files, and digests of the code that it was saved with."""
