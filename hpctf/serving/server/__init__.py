"""What a service runs, in an environment of its own (``hpctf/environment/locks/serving.txt``).

Of hpctf it imports what needs the standard library alone; no other part of hpctf imports it.
"""
