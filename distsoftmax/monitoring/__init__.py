"""The state of every node, beside the steps: measured by each rank, gathered now and then, kept, and shown.

What a rank measures (`node`, `reporter`), what is gathered of it (`report`), what is kept of a run (`run_state`), and
what it says (`summary`, `advice`, `tables`, `live`, `prometheus`). What only reads and shows needs neither numpy nor
MPI.
"""
