"""Removing, archiving and measuring runs."""
