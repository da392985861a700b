"""What is measured, each row of docs/performance.md in a module of its own: see README.md."""
