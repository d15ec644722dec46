"""scikit-learn's interface: arrays in memory in, a classifier out, by the training loop that the commands use."""
