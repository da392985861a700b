"""What a training script finds as ``hpctf`` without installing anything.

This folder goes onto the training's PYTHONPATH. It holds the package ``hpctf`` of the scripts'
side and nothing else: no other package of hpctf's own environment may reach the training.
"""
