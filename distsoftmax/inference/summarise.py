"""From a model and samples to the table: the steps, one after the other."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.elementary import log
from distsoftmax.arithmetic.parameters import dot
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.shards import ShowProgress
from distsoftmax.errors import InputError
from distsoftmax.inference.collinearity import describe_omitted
from distsoftmax.inference.covariance import covariance_of, in_own_units, standard_errors
from distsoftmax.inference.design import Design
from distsoftmax.inference.estimates import Summary
from distsoftmax.inference.labelled_samples import open_labelled_samples
from distsoftmax.inference.likelihood import Likelihood
from distsoftmax.inference.maximum import Maximum, Newton, NotConverged
from distsoftmax.inference.measurement import measure, memory_note
from distsoftmax.inference.options import SummaryConfig
from distsoftmax.inference.run_options import RunOptions, read_run_options
from distsoftmax.inference.separation import Separation
from distsoftmax.model import Model

INTERCEPT = "(intercept)"
FAR = 1.0  # standard errors that a coefficient may move without a word
SMALL = 1e-8  # decrement, above which a model is said not to be at its optimum


def summarise(config: SummaryConfig, cluster: Communicator, show: ShowProgress) -> Summary | None:
    """Estimate the table of a model from samples: on rank 0, None elsewhere. Collective.

    Raises
    ------
    InputError
        On every rank: the model or the samples cannot be used; the likelihood has no maximum; the table is too large.
    """
    with cluster.agreement():
        options = read_run_options(config.model_path)
    model, labelled = open_labelled_samples(config, cluster, show)
    reference = _reference(config, model)
    if options.intercept is None:
        options = replace(options, intercept=bool(model.intercept.any()))
    design = measure(labelled, model, options, cluster)
    if not design.width:
        raise InputError(
            f"{labelled.path}: no feature varies, and there is no intercept: nothing to estimate"
        ).on_all_ranks()
    is_robust = config.covariance == "sandwich" or config.cluster is not None
    if note := memory_note(design, is_simple=not is_robust and not options.l2):
        cluster.say(f"note: {note}", to_stderr=True)
    likelihood, start = Likelihood(design, reference, show), design.in_standard_units(model.coef, model.intercept)
    start -= start[reference]
    newton = Newton(likelihood, options.l2)
    # without a penalty there may be no optimum, and then the model's own standard errors mean nothing either
    ended: Maximum | Separation | None = None
    if config.polish or not options.l2:
        try:
            ended = newton.maximise(start)
        except NotConverged:
            if config.polish:
                raise
    if isinstance(ended, Separation):
        raise InputError(
            f"{labelled.path}: {ended.describe(model, design)}, so the likelihood has no maximum: the coefficients "
            "would be infinite. Train without those features (--drop), merge the classes, or train with an L2 penalty, "
            "such as --l2 1e-4"
        ).on_all_ranks()
    if not config.polish or ended is None:
        ended = newton.stay(start)
    outer = likelihood.outer_products(ended.parameters) if is_robust else None
    with cluster.agreement():
        if cluster.rank == 0:
            return _summary(config, model, options, likelihood, ended, start, outer)
    return None


def _summary(
    config: SummaryConfig,
    model: Model,
    options: RunOptions,
    likelihood: Likelihood,
    ended: Maximum,
    start: Doubles,
    outer: Doubles | None,
) -> Summary:
    """Put the table together, on rank 0."""
    design, others, penalised = likelihood.design, likelihood.others, options.l2 > 0
    assert ended.factor is not None
    assert ended.evaluation.information is not None
    n_groups, kind = design.labelled.n_groups, "ridge" if penalised else "classical"
    if outer is not None:
        kind = "cluster" if n_groups else "sandwich"
        outer *= n_groups / (n_groups - 1) if n_groups else 1.0
    covariance, effective_parameters = covariance_of(
        ended.evaluation.information, ended.factor, penalised=penalised, outer=outer
    )
    errors = standard_errors(covariance, design)
    coef = design.in_own_units(ended.parameters)[others]
    change = float((np.abs(coef - design.in_own_units(start)[others]) / errors).max())
    names = [model.feature_names[feature] for feature in design.kept.tolist()]
    return Summary(
        model=str(config.model_path),
        data=design.labelled.path,
        classes=tuple(model.classes[number] for number in others),
        reference=model.classes[likelihood.reference],
        features=(*names, INTERCEPT) if design.intercept else tuple(names),
        coef=coef,
        errors=errors,
        covariance=kind,
        n_clusters=n_groups,
        l2=options.l2,
        confidence=config.confidence,
        n_samples=design.n_samples,
        n_parameters=design.n_parameters,
        weight=design.total_weight,
        log_likelihood=ended.evaluation.log_likelihood,
        null_log_likelihood=_null_log_likelihood(design),
        effective_parameters=effective_parameters,
        degrees=(design.n_classes - 1) * design.kept.size,
        polished=config.polish,
        n_steps=ended.n_steps,
        decrement=ended.first_decrement,
        largest_change=change,
        notes=(*_notes(config, options, design, ended, change, kind), *options.notes),
        omitted=describe_omitted(design.omitted, model.feature_names, design.kept),
        vcov=None if config.vcov is None else in_own_units(covariance, design),
    )


def _reference(config: SummaryConfig, model: Model) -> int:
    """Return the number of the reference class. On every rank."""
    if config.reference is None:
        return 0
    if config.reference not in model.classes:
        known = ", ".join(model.classes[:20]) + (", ..." if len(model.classes) > 20 else "")
        raise InputError(
            f"--reference is {config.reference!r}, which is no class of {config.model_path}; it knows {known}"
        ).on_all_ranks()
    return model.classes.index(config.reference)


def _null_log_likelihood(design: Design) -> float:
    if not design.intercept:
        return -design.total_weight * log(float(design.n_classes))
    return dot(design.class_weights, log(design.class_weights / design.total_weight))


def _notes(
    config: SummaryConfig, options: RunOptions, design: Design, ended: Maximum, change: float, kind: str
) -> list[str]:
    """Return what the numbers mean, where they are not those of an unpenalised maximum."""
    notes = []
    if options.l2 > 0:
        notes.append(
            f"the model was trained with --l2 {options.l2:g}: its coefficients are biased towards 0. The standard "
            "errors are those of the penalised estimates, H^-1 I H^-1 (le Cessie and van Houwelingen, 1992); p-values "
            "and intervals leave the bias out. For maximum likelihood train with --l2 0"
        )
    if ended.restarted or (config.polish and change > FAR):
        notes.append(
            f"the optimum on these samples is far from the model, up to {change:.3g} standard errors: it was trained "
            "on other samples or weights, or stopped early. The table is that of these samples"
        )
    if not config.polish and ended.decrement > SMALL:
        notes.append(
            f"the model is not at its optimum on these samples, but {math.sqrt(ended.decrement):.2g} standard errors "
            "away (Newton decrement); without --no-polish the table is that of the optimum"
        )
    if config.weight is None and options.weight is not None:
        notes.append(
            f"the run weighted its samples (--weight {options.weight}); here all count alike: give --weight for the "
            "table of its own objective"
        )
    if config.weight is not None and kind in ("classical", "ridge"):
        notes.append(
            "weights are counts of rows here; for sampling weights use --covariance sandwich, for which AIC, BIC and "
            "the likelihood-ratio test do not hold"
        )
    if kind in ("sandwich", "cluster"):
        notes.append("AIC, BIC and the likelihood-ratio test trust the model; they are not robust")
    if kind == "cluster" and (n_groups := design.labelled.n_groups) <= design.n_parameters:
        notes.append(f"there are {n_groups} clusters for {design.n_parameters} parameters: standard errors vary")
    return notes
