"""The mathematics: softmax loss and gradient, the penalty, the certificate. The cluster is passed in."""
