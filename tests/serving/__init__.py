"""Tests of services: started, called, attacked, handed over."""
