"""What people do with flows that exist: look, plan, resume, retry, fork, pause, cancel, answer."""
