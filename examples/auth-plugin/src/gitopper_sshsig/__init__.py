"""Requests to gitopper, signed with ssh keys."""
