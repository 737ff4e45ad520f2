"""gitopperctl: see and steer the gitopperd of one host or of many.

People wait for this command, and scripts call it in loops, so its start has a budget: 150 ms of
CPU for `list services`. That is why nothing that it needs imports the daemon, libgitopper,
attrs (10 ms) or rich (33 ms for one table): values are dataclasses, tables are written here, and
what few need (ssh, watch, tokens) is imported when it is asked for.

Modules, each using only those above it:

* errors      what can go wrong
* text        text from afar made safe to print, and measured
* table       columns that fit a terminal
* private     files with secrets, refused where others can read them
* hosts       what `@HOST` means
* settings    how a host is asked, as flags, the environment and a file say
* config      the file, ctl.toml
* places      host and settings put together: where to connect, and with what
* tls         trust, and what to do where there is none
* ssh         the user's own ssh, to a Unix socket of another machine
* connect     connections, to the first place that takes one
* client      one question to one daemon
* fleet       the same question to several daemons, side by side
* stream      the events of one daemon
* show        answers as lines for a person
* options     options that stand anywhere, and the settings that come of it
* cli         how the command line is read: hosts anywhere, abbreviations
* carry       from a question to what is printed
* past        history, explanations and differences as lines for a person
* inquiries   the commands that ask for these
* watch       the events of several daemons, live
* tokens      the tokens of this machine's daemon
* commands    the commands
* completion  what bash needs to complete a line with an @HOST in it
* main        the entry point: what goes where, and the exit code
"""
