"""Runs: their folder, record and state, and what a person does with them."""
