"""Training and scoring of the models: what they feed on and minimise, folds, and checkpoints."""
