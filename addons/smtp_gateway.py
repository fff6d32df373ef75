"""mitmdump -n -s addons/smtp_gateway.py --set netinspect_config=netinspect.toml (docs/addons.md)"""

from netinspect.gateway.addon import SmtpGateway

addons = [SmtpGateway()]
