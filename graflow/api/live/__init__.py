"""Server-sent events: the tail of the journal, fed to the streams of a process."""
