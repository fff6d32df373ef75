"""Captures written: what was said becomes packets (`tcp`), packets become a file (`pcapng`). Bytes only, no I/O."""
