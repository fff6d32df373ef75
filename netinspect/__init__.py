"""netinspect: a mail inspector for the edge of a network."""

__version__ = "0.1.0"
