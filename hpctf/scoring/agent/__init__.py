"""What runs on the nodes for a scoring run: agents, each of which has a worker that scores."""
