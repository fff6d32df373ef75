"""SMTP as a conversation of two sides (RFC 5321), without I/O: bytes in, events out.

`session.Session` reads both directions; `reply.ReplyReader` one server's replies alone; `outgoing.stuff` and
`ehlo.filter_ehlo` make what a gateway sends on. Everything that is told is in `events`.
"""
