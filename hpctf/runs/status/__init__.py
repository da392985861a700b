"""What state runs are in, and waiting for their ends."""
