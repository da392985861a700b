"""Batch scoring: a registered model scores the rows of files, shared out over nodes.

A run like any other, whose ranks are agents (`hpctf.agents`). `definition` says what is scored,
`progress` what has become of each part, `runtime` in which environment; `agent/` runs on the nodes
and asks a worker, which is `worker/` in the run's snapshot and the environment's Python.
"""
