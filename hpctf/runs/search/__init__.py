"""Choosing runs by what they were given and what came out."""
