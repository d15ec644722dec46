"""Statistical inference: standard errors, tests and intervals of a model's coefficients, from the exact hessian."""
