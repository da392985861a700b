"""Helpers without a subject: files, programs' ends, paths, secrets, questions, repeating."""
