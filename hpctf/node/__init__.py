"""What runs on a compute node: one small process a rank, around the person's own.

Until that process runs, only the standard library is imported, and little of it.
"""
