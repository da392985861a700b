"""What a study runs on the nodes: agents that take trials, run each as a child, and judge it."""
