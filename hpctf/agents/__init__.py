"""Agents: processes of one run that share out its work by a ledger, whatever becomes of any."""
