"""The cases of the catalogue of faults, by what they are about."""
