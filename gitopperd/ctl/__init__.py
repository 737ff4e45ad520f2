"""gitopperctl: see and steer the gitopperd of one host or of many.

People wait for this command, and scripts call it in loops, so its start has a budget: 150 ms of
CPU for `list services`. That is why nothing below this package imports the daemon, libgitopper,
attrs (10 ms) or rich (33 ms for one table): values are dataclasses, and tables are written here.

Modules, each using only those above it:

* text        text from afar made safe to print, and measured
* table       columns that fit a terminal
* hosts       what `@HOST` means
* client      one question to one daemon, over HTTP
* fleet       the same question to several daemons, side by side
* show        answers as lines for a person
* cli         how the command line is read: hosts anywhere, abbreviations, common options
* commands    the commands
* completion  what bash needs to complete a line with an @HOST in it
* main        the entry point: what goes where, and the exit code
"""
