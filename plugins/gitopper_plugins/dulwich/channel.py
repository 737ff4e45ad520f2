"""Connections with a deadline, as the other plugins that speak to the network have them."""

from __future__ import annotations

from gitopper_plugins._channel import Channel, Deadline, dial

__all__ = ["Channel", "Deadline", "dial"]
