"""mitmdump -s addons/smtp_gateway.py --set netinspect_config=netinspect.toml"""

from netinspect.gateway.addon import SmtpGateway

addons = [SmtpGateway()]
