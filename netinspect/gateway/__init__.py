"""The inline gateway: SMTP sessions through mitmproxy's layers, each message held until it is judged."""
