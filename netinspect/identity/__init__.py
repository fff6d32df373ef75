"""Who sends: zones, our names and our networks."""

from __future__ import annotations

from netinspect.identity.domains import OurDomains, OurNetworks, domain_of
from netinspect.identity.zone import Identity

__all__ = ["Identity", "OurDomains", "OurNetworks", "domain_of"]
