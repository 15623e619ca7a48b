"""The mathematics: pure functions on arrays, with no files, no globals and no command line."""
