"""What `netinspect --help` and `netinspect COMMAND --help` say."""

DESCRIPTION = """\
Inspects mail at the edge of a network: every message is held, judged, and then let go or refused.

  netinspect demo                     see it work, on this machine, in seconds
  netinspect config init              write a commented netinspect.toml
  netinspect doctor                   what works here and what does not
  netinspect firewall show            the packet-filter rules for this configuration
  netinspect gateway                  run the gateway
  netinspect record DIR               run it, and record its sessions
  netinspect scan mail.eml            judge a mail or a file
  netinspect replay day.pcapng        judge every session in a capture
  netinspect policy test mail.eml     which rule decides about it, and why
"""

EPILOG = """\
exit status: 0 fine or nothing found, 1 something found, 2 could not do it; 130 after Ctrl-C.
The configuration is -c FILE, else the file that NETINSPECT_CONFIG names, else built-in defaults.
`netinspect COMMAND --help` says more about each.
"""

DEMO_HELP = """\
Starts a gateway with an external and an internal listener and a small mail server on free ports of loopback, sends good
and bad mails through it and prints a table. Needs no privileges, nothing installed besides and no settings: -c is not
looked at. Exit status 0 if all came out as they should, 1 if not, 2 if it could not be done.
"""

GATEWAY_HELP = """\
SIGTERM and SIGINT stop it once running messages are finished (at most shutdown_grace seconds). SIGHUP reopens the
record file. When it listens it says "netinspect gateway: ready" on stderr.
"""

RECORD_HELP = """\
The same as `netinspect gateway` with [record] directory = DIR, which is made if it is not there: every session goes
into a pcapng file in it as the client said it and was answered, whole, each verdict as a comment on its reply. What
clients log in with is left out. Sizes and ages that are not given are those of [record].
`netinspect replay DIR` judges the sessions again.
"""

SCAN_HELP = """\
A file that looks like a mail is judged as one that came in from outside; any other file is judged as an attachment. Of
a folder all files are judged. The lines below a file: its parts, "!" what was found, "?" what could not be looked at,
"~" what is malformed.

Exit status: 0 all accepted, all looked at, and nothing found but for information (severity 3); 1 something found, or
not all of it could be looked at; 2 a file could not be read.
"""

REPLAY_HELP = """\
Reads pcap and pcapng (also compressed) and judges every SMTP session in them as the gateway would have. Prints a table;
with --events - only records. Names are files, folders and patterns; - is standard input, a live capture, too. The
records are the same whatever the number of processes.

  netinspect replay day.pcapng
  netinspect replay captures/ --report monday.html --extract found
  netinspect replay captures/ --policy next.toml --workers 4
  tcpdump -i eth0 -s 0 -U -w - 'port 25' | netinspect replay - --events - | jq -c 'select(.verdict)'

Exit status: 0 all accepted, all looked at, and nothing found but for information (severity 3); 1 something found, or
not all of it could be looked at; 2 a capture could not be read, or not wholly (what could be read is judged).
"""

POLICY_HELP = """\
The engines look at each file once, then the rules are asked in their order; the first that holds decides. A file has no
connection: zone, client and envelope are what the options say; mails of a capture have their own. With --policy the
rules of a second configuration judge the same findings. Of the rules that do not hold, those of the file are shown;
with -v the built-in ones too.
Exit status: 0 done, 1 the second configuration would change something, 2 a file could not be read.
"""

FIREWALL_HELP = """\
show prints nftables rules (load them with `netinspect firewall show | nft -f -`); apply loads them and sets the routes
that keep_client_address needs; remove takes away what apply brought, and nothing else. apply and remove need root.
"""

CONFIG_HELP = """\
check names every mistake with file, line and remedy; show prints what is in force; init writes a commented file in
which every key stands with its default (to standard output without FILE; a file that exists is left alone).
"""

DOCTOR_HELP = """\
Looks at libraries, clamd, folders, ports, servers, packet filter, privileges and limits, as far as these settings need
them. Run it as the user that the gateway runs as. Exit status: 0 all is well, 1 something is not.
"""
