"""The listener: how connections come in, over TCP, TLS and the Unix socket, and what they may take."""
