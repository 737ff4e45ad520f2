"""``python -m gitopperd``: the daemon, in an environment whose scripts are not on the path."""

from gitopperd.start import main

main()
