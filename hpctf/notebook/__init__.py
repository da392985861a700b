"""Runs and experiments as notebooks show them: HTML cards, and a widget that keeps up."""
