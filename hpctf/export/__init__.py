"""Runs in the tools that people have: MLflow, TensorBoard, CSV.

`hpctf.export.mlflow_store.to_mlflow` writes runs to an MLflow store, `hpctf.export.tables` to CSV;
`hpctf.export.board` shows them in TensorBoard, `hpctf.export.events` writes its event files.
Nothing here is imported before it is asked for: MLflow takes seconds.
"""
