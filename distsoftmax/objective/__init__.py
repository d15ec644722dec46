"""The mathematics: softmax loss and gradient, the penalty, the certificate. No MPI, no files."""
