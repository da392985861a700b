"""``hpctf migrate``: submission scripts and notebooks of Azure ML's, for hpctf."""
