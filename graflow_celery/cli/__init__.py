"""Commands that plug into `graflow`: groups on workers, workers, queues."""
