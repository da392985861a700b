"""Models in use: the service that answers requests, and those who start, find and call it."""
