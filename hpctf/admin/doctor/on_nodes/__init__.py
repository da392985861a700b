"""What ``hpctf doctor --job`` runs on the nodes: standard library alone, Python 3.8 and up.

The files go with the probe's snapshot and import nothing of hpctf, which is not there in a training
environment.
"""
