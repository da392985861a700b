"""Copies of a run's data on its nodes' own disks.

A step on every node, before that of the ranks, makes the copies (`step`), in a folder of hpctf's
that is the person's alone (`area`). The ranks hold what they read (`held`), and the last one to end
on a node takes it away if the job is being taken off; else a step after theirs does.
"""
