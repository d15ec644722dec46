"""The mathematics: softmax loss and gradient, the penalty, the certificate. The cluster is passed in.

Conventions
-----------
n samples x_i, each with d features, a class y_i of K, and a weight s_i > 0; S = sum_i s_i.

==============  ============  ==========================================================
`parameters`    (K, d + 1)    [coef | intercept]: a row for each class, the intercept last
`coef`          (K, d)        what a unit of each feature adds to each class's score
`intercept`     (K,)          the score of each class where all features are 0
scores z_i      (K,)          coef x_i + intercept
probabilities   (K,)          p_ik = exp(z_ik) / sum_l exp(z_il)
==============  ============  ==========================================================

The softmax does not change when the same number is added to all scores of a sample. So the largest is subtracted
first: no exponential overflows, and the sum is from 1 to K.

Loss
----
The cross-entropy of one sample is J_i = -log p_iy = log sum_l exp(z_il) - z_iy, with y for y_i. It is taken from the
scores, not from the probability, which may be 0 in floating point where its logarithm is not. The data fit is
sum_i s_i J_i / S.

Gradient
--------
The derivative of a probability by a score is, with [k = l] for 1 where k is l and else 0,

    dp_ik / dz_il = p_ik ([k = l] - p_il),

so that of the loss, by the chain rule through -log p_iy, is

    dJ_i / dz_il = -(1 / p_iy) p_iy ([y = l] - p_il) = p_il - [y = l]:

p_iy - 1 for the sample's own class, and +p_il, not -p_iy p_il, for each other one. The K numbers add up to 0. A score
depends on its own row of `parameters` alone, dz_il / dcoef_l = x_i and dz_il / dintercept_l = 1. Over all samples

    gradient of coef_l       sum_i s_i (p_il - [y_i = l]) x_i / S
    gradient of intercept_l  sum_i s_i (p_il - [y_i = l]) / S,

which as matrices is (P - Y)^T diag(s) [X | 1] / S. The difference P - Y is an array of its own: where it is written
over P, whoever asks for the probabilities next gets the gradient.

Hessian
-------
By the first formula again, the second derivatives by coef_k and coef_l are

    sum_i s_i p_ik ([k = l] - p_il) x_i x_i^T / S.

A product with this matrix does not need the matrix: along a direction D, with u_i = D (x_i, 1), a sample adds
s_i p_ik (u_ik - sum_l p_il u_il) x_i / S to row k. It is positive semidefinite, so the data fit is convex. It is flat
where one row is added to those of all classes; there an L2 penalty makes the objective strongly convex.

References
----------
C. M. Bishop, Pattern Recognition and Machine Learning (2006), section 4.3.4, equations 4.104 to 4.110.
"""
