"""Several trainings in one job: mpirun -n 3 python tests/jobs/trainings.py "OPTIONS" "OPTIONS" ..."""

import shlex
import sys

from distsoftmax.cluster.startup import join_job, load_core
from distsoftmax.command_line import parse
from distsoftmax.config import TrainConfig
from distsoftmax.train import command


def main():
    cluster = join_job()
    load_core(cluster)
    for options in sys.argv[1:]:
        status = command(parse(TrainConfig, shlex.split(options), prog="trainings"), cluster)
        if status:
            cluster.leave(status)
    cluster.leave(0)


if __name__ == "__main__":
    main()
