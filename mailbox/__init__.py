"""Envelopes, mailboxes, overflow policies, channels and the message codec."""
