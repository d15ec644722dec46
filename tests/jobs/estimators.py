"""One rank of a job in which each gives its own rows, the first none: mpirun -n 3 python tests/jobs/estimators.py"""

import numpy as np
from mpi4py import MPI
from sklearn.datasets import load_digits

from distsoftmax import SoftmaxRegression, SoftmaxRegressionCV
from distsoftmax.cluster.found import found_job


def main():
    X, y = load_digits(return_X_y=True)
    cluster = found_job()
    own = [np.arange(0), np.arange(170), np.arange(170, 300)][cluster.rank]
    X, y = X[own], y[own]
    classifier = SoftmaxRegression(l2=1e-3).fit(X, y)
    path = SoftmaxRegressionCV([0.1, 0.01], cv=2, comm=MPI.COMM_WORLD).fit(X, y)
    digests = f"{classifier.model_.sha256} {path.model_.sha256} {path.l2_:g}"
    assert len(set(cluster.allgather(digests))) == 1
    cluster.say(digests)
    try:
        SoftmaxRegression().fit(X[:, : 64 - cluster.rank], y)
    except ValueError as error:
        cluster.say(str(error))


if __name__ == "__main__":
    main()
