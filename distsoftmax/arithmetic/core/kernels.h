/* What is asked of the samples of a shard: run after run of rows, each forwards, through the softmax, and backwards. The
   specification is in SPECIFICATION.md. */

#include "dense.h"
#include "rows.h"
#include "softmax.h"
#include "sparse.h"

/* Room for the work on a shard. */
typedef struct {
    void *memory;
    int64_t block, run, stride; /* rows; rows; numbers of a row of scores */
    located_rows rows;
    const real **strip_row;
    real *scores, *derivative, *packed, *strip, *sums, *own, *largest;
    real *intercept_chains, *chains;
    double *losses, *intercept;
    double *gradient;
} workspace;

static int make_workspace(workspace *work, const samples *x, int64_t n_classes, int with_gradient) {
    int64_t d = x->starts ? 0 : x->n_features, block = block_rows(x->n_taken, d, n_classes);
    int64_t stride = PADDED(n_classes), width = (d + LANES - 1) / LANES * LANES, run = block;
    if (with_gradient) run = x->starts ? compressed_run(block, stride) : run_rows(block, d, n_classes);
    if (run > x->n_taken) run = x->n_taken;
    int own_type = x->storage == OWN_STORAGE && !x->mean;
    int64_t roomy = own_type ? LANES : run; /* rows that are copied */
    int64_t gradient = with_gradient ? n_classes * d : 0, chains = with_gradient && run < block ? n_classes * width : 0;
    if (with_gradient && x->starts && (run < x->n_taken || chains_are_cached(x, F64_PADDED(n_classes))))
        gradient = x->n_features * F64_PADDED(n_classes);
    int64_t reals_needed = roomy * width + run * (3 * stride + TILE_FEATURES) + stride + chains;
    int64_t padded = F64_PADDED(run);
    int64_t bytes = (2 * run + MOST_TILE_ROWS) * (int64_t)sizeof(real *);
    bytes += (reals_needed + 3 * padded) * (int64_t)sizeof(real) + (padded + stride + gradient) * 8;
    char *memory = malloc(bytes + 16 * 64); /* each member may start up to 63 bytes later */
    if (!memory) return 0;
    work->memory = memory;
#define TAKE(member, type, count) \
    memory = (char *)(((uintptr_t)memory + 63) / 64 * 64), work->member = (type *)memory, memory += (count) * sizeof(type)
    TAKE(rows.row, const real *, run + MOST_TILE_ROWS);
    TAKE(strip_row, const real *, run);
    TAKE(rows.room, real, roomy * width);
    TAKE(scores, real, run * stride);
    TAKE(derivative, real, run * stride);
    TAKE(packed, real, run * stride);
    TAKE(strip, real, run * TILE_FEATURES);
    TAKE(sums, real, padded);
    TAKE(own, real, padded);
    TAKE(largest, real, padded);
    TAKE(intercept_chains, real, stride);
    TAKE(chains, real, chains);
    TAKE(losses, double, padded);
    TAKE(intercept, double, stride);
    TAKE(gradient, double, gradient);
#undef TAKE
    work->block = block;
    work->run = run;
    work->stride = stride;
    work->rows.width = width;
    work->rows.is_own_type = own_type;
    for (int64_t i = 0; i < roomy && width; i++) /* what is read beyond a row's end */
        memset(work->rows.room + i * width + x->n_features, 0, (width - x->n_features) * sizeof(real));
    memset(work->intercept, 0, stride * sizeof(double));
    return 1;
}

/* Find the rows of the run that begins with row `first` of those taken; how many they are. */
static int64_t locate_run(const samples *x, int64_t first, workspace *work) {
    int64_t left = work->block - first % work->block; /* in the block; a run is a part of one, or whole ones */
    int64_t n = work->run < work->block && left < work->run ? left : work->run;
    if (n > x->n_taken - first) n = x->n_taken - first;
    if (!x->starts) locate_rows(x, first, n, MOST_TILE_ROWS, &work->rows);
    return n;
}

/* Scores of the rows `first` to `first + n` of those taken. */
static void scores_of(const scorer *w, const samples *x, int64_t first, int64_t n, workspace *work, real *scores) {
    if (x->starts) sparse_scores(w, x, first, n, scores, work->stride);
    else score_run(work->rows.row, n, w->n_features, w->coef, w->intercept, scores, work->stride);
}

/* Add errors of rows of one block, (n, stride), to the intercept's gradient: its feature is 1. */
static void add_to_intercept(const real *errors, int64_t n, const gradient_sink *sink, workspace *work) {
    int64_t stride = work->stride;
    for (int64_t k = 0; k < stride; k += LANES) {
        reals chain = sink->begins_block ? REAL(all)(0) : REAL(load)(work->intercept_chains + k);
        for (int64_t r = 0; r < n; r++) chain += REAL(load)(errors + r * stride + k);
        REAL(store)(work->intercept_chains + k, chain);
        if (sink->ends_block) for (int i = 0; i < LANES; i++) work->intercept[k + i] += (double)chain[i];
    }
}

/* Add the errors of the rows `first` to `first + n`, (n, stride), times their features. */
static void add_gradient(const samples *x, int64_t first, int64_t n, int64_t n_classes, const real *errors,
                         workspace *work, gradient_sink *sink) {
    int64_t stride = work->stride;
    int is_last = first + n == x->n_taken;
    for (int64_t r = 0; r < n;) { /* block after block: of dense rows, whose run is in one block, this is one turn */
        int64_t rest = work->block - (first + r) % work->block, last = r + rest < n ? r + rest : n;
        sink->begins_block = rest == work->block;
        sink->ends_block = last == r + rest || is_last;
        add_to_intercept(errors + r * stride, last - r, sink, work);
        r = last;
    }
    if (x->starts) {
        sparse_sink to = {work->gradient, F64_PADDED(n_classes), n_classes, first == 0, is_last,
                          sink->scale, sink->total, ~(f64v_bits){0}};
        if (!sparse_gradient(x, first, n, errors, stride, &to)) sink->lacks_memory = 1;
        for (int i = 0; i < F64_LANES; i++) sink->all_small &= to.all_small[i] != 0;
        return;
    }
    sink->is_first_block = first < work->block;
    sink->is_last_block = is_last;
    gradient_run(work->rows.row, n, x->n_features, errors, stride, n_classes, work->packed, work->strip, work->strip_row,
                 sink);
}

/* Round what is not rounded yet. Returns a `status`. */
static int finish(int64_t n_classes, const workspace *work, const gradient_sink *sink, const totals *to) {
    int fine = sink->all_small;
    for (int64_t k = 0; k < n_classes; k++) {
        double scaled = work->intercept[k] * to->intercept_scale;
        fine &= is_small(scaled);
        to->intercept[k] += nearest_integer(scaled);
    }
    return sink->lacks_memory ? NO_MEMORY : fine ? FINE : NOT_FINITE;
}

static gradient_sink sink_of(const workspace *work, const samples *x, const totals *to) {
    return (gradient_sink){.chains = work->chains, .width = work->rows.width, .sum = work->gradient,
                           .n_features = x->n_features, .scale = to->scale, .total = to->coef, .all_small = 1};
}

/* Loss and gradient of the rows taken, rounded and added to the totals. */
int EXPORT(loss_and_gradient)(const scorer *w, const samples *x, const totals *to) {
    workspace work;
    if (x->n_taken == 0) return FINE;
    if (!make_workspace(&work, x, w->n_classes, 1)) return NO_MEMORY;
    gradient_sink sink = sink_of(&work, x, to);
    double loss = 0;
    for (int64_t first = 0, n; first < x->n_taken; first += n) {
        n = locate_run(x, first, &work);
        scores_of(w, x, first, n, &work, work.scores);
        for (int64_t r = 0; r < n; r++)
            work.own[r] = work.scores[r * work.stride + x->classes[taken_row(x, first + r)]];
        softmax_rows(work.scores, n, work.stride, work.largest, work.sums);
        for (int64_t r = 0; r < n; r++) {
            real *scores = work.scores + r * work.stride;
            int64_t row = taken_row(x, first + r);
            scores[x->classes[row]] -= 1;
            if (x->weights) {
                reals weight = REAL(all)((real)x->weights[row]);
                for (int64_t k = 0; k < work.stride; k += LANES) REAL(store)(scores + k, REAL(load)(scores + k) * weight);
            }
        }
        losses_of(work.sums, work.own, work.largest, n, work.losses);
        for (int64_t r = 0; r < n; r++)
            loss = x->weights ? f64_fma(x->weights[taken_row(x, first + r)], work.losses[r], loss) : loss + work.losses[r];
        add_gradient(x, first, n, w->n_classes, work.scores, &work, &sink);
    }
    int status = finish(w->n_classes, &work, &sink, to);
    if (status == FINE && !add_two_limbs(loss, to->loss_scale, to->loss)) status = NOT_FINITE;
    free(work.memory);
    return status;
}

/* The product of the hessian of the loss with a direction, rounded and added to the totals.

   kept: probabilities (n_rows, PADDED(n_classes)) at the point, or NULL: they are computed from `at`. */
int EXPORT(hessian_product)(const scorer *direction, const scorer *at, const real *kept, const samples *x,
                            const totals *to) {
    workspace work;
    if (x->n_taken == 0) return FINE;
    if (!make_workspace(&work, x, direction->n_classes, 1)) return NO_MEMORY;
    gradient_sink sink = sink_of(&work, x, to);
    for (int64_t first = 0, n; first < x->n_taken; first += n) {
        n = locate_run(x, first, &work);
        scores_of(direction, x, first, n, &work, work.derivative);
        if (!kept) {
            scores_of(at, x, first, n, &work, work.scores);
            softmax_rows(work.scores, n, work.stride, work.largest, work.sums);
        }
        for (int64_t r = 0; r < n; r++) {
            int64_t row = taken_row(x, first + r);
            const real *probabilities = kept ? kept + row * work.stride : work.scores + r * work.stride;
            error_derivative(probabilities, work.derivative + r * work.stride, work.stride,
                             x->weights ? (real)x->weights[row] : 1);
        }
        add_gradient(x, first, n, direction->n_classes, work.derivative, &work, &sink);
    }
    int status = finish(direction->n_classes, &work, &sink, to);
    free(work.memory);
    return status;
}

/* Probabilities of the rows taken, (n_taken, stride): stride is n_classes, or PADDED(n_classes) with zeros. */
int EXPORT(probabilities)(const scorer *w, const samples *x, real *probabilities, int64_t stride) {
    workspace work;
    if (x->n_taken == 0) return FINE;
    if (!make_workspace(&work, x, w->n_classes, 0)) return NO_MEMORY;
    for (int64_t first = 0, n; first < x->n_taken; first += n) {
        n = locate_run(x, first, &work);
        scores_of(w, x, first, n, &work, work.scores);
        softmax_rows(work.scores, n, work.stride, work.largest, work.sums);
        for (int64_t r = 0; r < n; r++)
            memcpy(probabilities + (first + r) * stride, work.scores + r * work.stride, stride * sizeof(real));
    }
    free(work.memory);
    return FINE;
}

/* Of the rows taken, unweighted: the sum of the losses, and of each row the class of its largest score, the first of
   equal ones. */
int EXPORT(loss_and_prediction)(const scorer *w, const samples *x, double *loss, int64_t *predicted) {
    workspace work;
    *loss = 0;
    if (x->n_taken == 0) return FINE;
    if (!make_workspace(&work, x, w->n_classes, 0)) return NO_MEMORY;
    for (int64_t first = 0, n; first < x->n_taken; first += n) {
        n = locate_run(x, first, &work);
        scores_of(w, x, first, n, &work, work.scores);
        for (int64_t r = 0; r < n; r++) {
            real *scores = work.scores + r * work.stride;
            int64_t best = 0;
            for (int64_t k = 1; k < w->n_classes; k++) best = scores[k] > scores[best] ? k : best;
            predicted[first + r] = best;
            work.own[r] = scores[x->classes[taken_row(x, first + r)]];
        }
        softmax_rows(work.scores, n, work.stride, work.largest, work.sums);
        losses_of(work.sums, work.own, work.largest, n, work.losses);
        for (int64_t r = 0; r < n; r++) *loss += work.losses[r];
    }
    free(work.memory);
    return FINE;
}

/* The sum of weight * (diag(p) - p p^T) over the rows taken, (n_classes, n_classes): the intercepts' hessian. */
int EXPORT(intercept_hessian)(const scorer *w, const samples *x, double *hessian) {
    workspace work;
    int64_t n_classes = w->n_classes;
    memset(hessian, 0, n_classes * n_classes * sizeof(double));
    if (x->n_taken == 0) return FINE;
    if (!make_workspace(&work, x, n_classes, 0)) return NO_MEMORY;
    gradient_sink sink = {.chains = work.chains, .sum = hessian, .n_features = n_classes, .begins_block = 1,
                          .ends_block = 1, .all_small = 1};
    for (int64_t first = 0, n; first < x->n_taken; first += n) {
        n = locate_run(x, first, &work);
        scores_of(w, x, first, n, &work, work.scores);
        softmax_rows(work.scores, n, work.stride, work.largest, work.sums);
        for (int64_t r = 0; r < n; r++) {
            real *p = work.scores + r * work.stride, *weighted = work.derivative + r * work.stride;
            reals weight = REAL(all)(x->weights ? (real)x->weights[taken_row(x, first + r)] : 1);
            for (int64_t k = 0; k < work.stride; k += LANES) REAL(store)(weighted + k, REAL(load)(p + k) * weight);
            for (int64_t k = 0; k < n_classes; k++) work.intercept[k] += (double)weighted[k];
            work.rows.row[r] = p;
        }
        sink.is_first_block = first == 0;
        gradient_run(work.rows.row, n, n_classes, work.derivative, work.stride, n_classes, work.packed, work.strip,
                     work.strip_row, &sink);
    }
    for (int64_t k = 0; k < n_classes; k++)
        for (int64_t l = 0; l < n_classes; l++)
            hessian[k * n_classes + l] = (k == l ? work.intercept[k] : 0) - hessian[k * n_classes + l];
    free(work.memory);
    return FINE;
}

/* Pack parameters (n_classes, n_features + 1), the intercept last, for `scorer`. Rows of scores go on beyond the classes:
   -inf there is no score at all, 0 is none along a direction. */
int EXPORT(pack)(int64_t n_classes, int64_t n_features, int64_t sparse, const double *parameters, double beyond,
                 real *coef, real *intercept) {
    int64_t stride = PADDED(n_classes), width = n_features + 1;
    for (int64_t k = 0; k < stride; k++)
        intercept[k] = k < n_classes ? (real)parameters[k * width + n_features] : (real)beyond;
    if (sparse) {
        for (int64_t k = 0; k < QUADS(n_classes); k++)
            for (int64_t j = 0; j < n_features; j++)
                coef[j * QUADS(n_classes) + k] = k < n_classes ? (real)parameters[k * width + j] : 0;
        return FINE;
    }
    for (int64_t panel = 0, first = 0; first < stride; panel++) {
        int64_t lanes = panel_vectors(stride, panel) * LANES;
        for (int64_t lane = 0; lane < lanes; lane++)
            for (int64_t j = 0; j < n_features; j++)
                coef[first * n_features + j * lanes + lane] =
                    first + lane < n_classes ? (real)parameters[(first + lane) * width + j] : 0;
        first += lanes;
    }
    return FINE;
}
