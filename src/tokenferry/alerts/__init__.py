"""Says once, in the log and by a webhook, that somebody has to act: a dead login, no account left, a budget used up."""

from tokenferry.alerts._alerts import Alert, Alerts
from tokenferry.alerts._webhook import SIGNATURE, send_alert, sign

__all__ = ["SIGNATURE", "Alert", "Alerts", "send_alert", "sign"]
