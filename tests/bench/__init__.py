"""Measurements beside peers, run by `make bench` (`python -m tests.bench`). See `__main__` for the options."""
