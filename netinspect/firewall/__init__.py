"""Packet-filter rules that bring SMTP to the transparent listeners: text in `nft`, the running kernel in `kernel`."""
