"""Hyperparameter tuning: what trials are drawn from, which of them end early, and where a study is
kept.

It stands on `hpctf.agents`, which share out a study's trials. `expressions` and `spaces` say what a
parameter is drawn from, `sampling` and `draws` how, `policies` and `judging` which trial stops
early, `config` what a study is made of. `search` is the layer over Optuna, which nothing else
imports.
"""
