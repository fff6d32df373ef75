"""End to end: real namespaces, real programs, the gateway as its own process.

    world.py      three network namespaces and the links between them
    postfix.py    a Postfix of our own, as server or as client
    clamd.py      a clamd of our own with a database of one signature; fakeclamd.py: one that misbehaves
    gateway.py    the gateway as a process, its settings and its records
    clients.py    swaks, smtplib and a raw socket
    server.py     a server that follows a script, dies where it is told to, and keeps all it got
    ledger.py     what each client was told against what arrived
    mails.py      messages, each with a token of its own
"""
