"""What the two sides of the queue share: the run folder's files, and what they say."""
