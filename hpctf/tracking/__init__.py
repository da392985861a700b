"""What runs have learned, for the login side: read from run folders, never from a server.

The files are written and read by the client (`hpctf.client.hpctf`), which trainings import.
"""
