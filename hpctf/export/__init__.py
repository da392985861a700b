"""Runs in the tools that people have: MLflow, TensorBoard, CSV.

Nothing here is imported before it is requested: MLflow takes seconds.
"""
