"""Commands of the program, one thin module per group; each parses and calls one function."""
