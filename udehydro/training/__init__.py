"""Training: losses, optimisers, checkpoints and the loop that joins them."""
