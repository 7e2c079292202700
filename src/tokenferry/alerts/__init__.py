"""Sends an alert to the log and a webhook where a person has to act: a dead login, no account, a nearly used budget."""

from tokenferry.alerts._alerts import Alert, Alerts
from tokenferry.alerts._webhook import SIGNATURE, send_alert, sign

__all__ = ["SIGNATURE", "Alert", "Alerts", "send_alert", "sign"]
