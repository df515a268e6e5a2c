"""The job table, the runners that take jobs from it, and the webhooks that tell of their end."""
