"""Runs in the tools that people have: MLflow, TensorBoard, CSV.

`hpctf.export.mlflow_store.to_mlflow` writes runs to an MLflow store, `hpctf.export.csv_tables` to
CSV; `hpctf.export.tensorboard` shows them in TensorBoard, `hpctf.export.event_files` writes its
event files.
Nothing here is imported before it is asked for: MLflow takes seconds.
"""
