"""The daemon, and the client that steers it."""
