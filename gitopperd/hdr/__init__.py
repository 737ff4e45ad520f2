"""gitopperhdr: the lines at the top of a file that say where to edit it. Imports nothing of the daemon."""
