"""Arrays: .npy, .npz and HDF5 files, and scikit-learn's digits."""
