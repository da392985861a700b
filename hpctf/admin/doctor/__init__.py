"""``hpctf doctor``: whether a site works as its file says, and what to do where it does not."""
