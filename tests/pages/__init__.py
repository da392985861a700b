"""Pages that hpctf makes, as a real browser shows them."""
