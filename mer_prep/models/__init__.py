"""Architectures of published recognisers, in PyTorch; how they are trained is in `training`."""
