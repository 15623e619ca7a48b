"""Synthetic corpora in the layouts of the real ones, with the true motion beside the frames."""
