"""The one exception of the lab tool."""

from __future__ import annotations


class LabError(Exception):
    """Something the person at the keyboard has to know; the message ends with what to do."""
