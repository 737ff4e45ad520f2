"""The work: followers poll, runners make passes, the board knows how everything stands."""
