/* Calls what the core exports on numbers made of integers alone, and prints a digest of each result.

   Linked with a core of any instruction set, compiler or architecture, it must print the same lines. A new function takes
   its prototype, and one line: SHOW(name, call, result). */

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "samples.h"

void ds_exp_f32(int64_t, const float *, float *), ds_exp_inside_f32(int64_t, const float *, float *);
void ds_exp_f64(int64_t, const double *, double *), ds_exp_inside_f64(int64_t, const double *, double *);
void ds_log_f64(int64_t, const double *, double *), ds_log_inside_f64(int64_t, const double *, double *);
double ds_exp(double), ds_log(double);
void ds_fma_f32(int64_t, const float *, const float *, const float *, float *);
void ds_fma_f64(int64_t, const double *, const double *, const double *, double *);
void ds_scalar_fma_f32(int64_t, const float *, const float *, const float *, float *);
void ds_scalar_fma_f64(int64_t, const double *, const double *, const double *, double *);

double ds_dot(int64_t, int64_t, const double *, int64_t, const double *, int64_t);
double ds_total(int64_t, int64_t, const double *, int64_t);
void ds_matrix_vector(int64_t, int64_t, const double *, int64_t, const double *, double *);
void ds_axpy(int64_t, int64_t, double, const double *, int64_t, double *, int64_t);
void ds_column_squares(int64_t, int64_t, const double *, int64_t, double *);
int ds_product_f32(int64_t, int64_t, int64_t, const float *, int64_t, int64_t, const float *, int64_t, int64_t, float *);
int ds_product_f64(int64_t, int64_t, int64_t, const double *, int64_t, int64_t, const double *, int64_t, int64_t, double *);
int ds_gram_f32(int64_t, int64_t, const float *, int64_t, int64_t, const float *, float *);
int ds_gram_f64(int64_t, int64_t, const double *, int64_t, int64_t, const double *, double *);
int ds_hessian(int64_t, int64_t, int64_t, const double *, const double *, const double *, double *);
int ds_cholesky(int64_t, double *), ds_inverse(int64_t, const double *, double *, double *);
void ds_cholesky_solve(int64_t, const double *, double *);

void ds_sum_columns(const samples *, int64_t, const double *, double *);
void ds_sum_by_class(const samples *, double *, int64_t);
void ds_row_norms(const samples *, const double *, const double *, double, double *);

/* the kernels over samples; the narrow ones exist in the cores with long registers */
#define KERNELS(T, ATTRIBUTE) \
    int ds_pack_##T(int64_t, int64_t, int64_t, const double *, double, void *, void *) ATTRIBUTE; \
    int ds_loss_and_gradient_##T(const scorer *, const samples *, const totals *) ATTRIBUTE; \
    int ds_hessian_product_##T(const scorer *, const scorer *, const void *, const samples *, const totals *) ATTRIBUTE; \
    int ds_probabilities_##T(const scorer *, const samples *, void *, int64_t) ATTRIBUTE; \
    int ds_loss_and_prediction_##T(const scorer *, const samples *, double *, int64_t *) ATTRIBUTE; \
    int ds_intercept_hessian_##T(const scorer *, const samples *, double *) ATTRIBUTE;
KERNELS(f32, )
KERNELS(f64, )
KERNELS(f32_narrow, __attribute__((weak)))

typedef struct {
    const char *name;
    int64_t bytes;
    int (*pack)(int64_t, int64_t, int64_t, const double *, double, void *, void *);
    int (*loss_and_gradient)(const scorer *, const samples *, const totals *);
    int (*hessian_product)(const scorer *, const scorer *, const void *, const samples *, const totals *);
    int (*probabilities)(const scorer *, const samples *, void *, int64_t);
    int (*loss_and_prediction)(const scorer *, const samples *, double *, int64_t *);
    int (*intercept_hessian)(const scorer *, const samples *, double *);
} kernels;
#define TABLE(T, NAME, BYTES) {NAME, BYTES, ds_pack_##T, ds_loss_and_gradient_##T, ds_hessian_product_##T, \
                               ds_probabilities_##T, ds_loss_and_prediction_##T, ds_intercept_hessian_##T}

static kernels kernels_of(int single, int64_t n_classes) {
    kernels wide = TABLE(f32, "f32", 4), twice = TABLE(f64, "f64", 8), narrow = TABLE(f32_narrow, "f32", 4);
    return !single ? twice : narrow.pack && n_classes <= 8 ? narrow : wide;
}

/* --- numbers and digests --- */

static uint64_t state;

static uint64_t integer(void) { /* splitmix64 */
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int64_t below(int64_t n) { return (int64_t)(integer() >> 33) % n; }

/* a number of 24 bits in [-1, 1), exact in either type */
static double number(void) { return (double)((int64_t)(integer() >> 40) - 0x800000) * 0x1p-23; }

/* numbers of all magnitudes between two powers of two, with all their bits */
static double any_double(int64_t least, int64_t most) {
    uint64_t bits = (integer() & 0x800fffffffffffffu) | (uint64_t)(1023 + least + below(most - least)) << 52;
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

static void *room(int64_t count, int64_t bytes) {
    void *memory = calloc((size_t)(count + 64), (size_t)bytes); /* vectors are read beyond the end */
    if (!memory) abort();
    return memory;
}

static double *doubles(int64_t count, double scale) {
    double *array = room(count, 8);
    for (int64_t i = 0; i < count; i++) array[i] = number() * scale;
    return array;
}

static float *floats(int64_t count, double scale) {
    float *array = room(count, 4);
    for (int64_t i = 0; i < count; i++) array[i] = (float)(number() * scale);
    return array;
}

static void show(const void *result, int64_t bytes, const char *format, ...) {
    uint64_t digest = 0xcbf29ce484222325u; /* FNV-1a */
    for (int64_t i = 0; i < bytes; i++) digest = (digest ^ ((const unsigned char *)result)[i]) * 0x100000001b3u;
    va_list values;
    va_start(values, format);
    vprintf(format, values);
    va_end(values);
    printf(" %016llx\n", (unsigned long long)digest);
}

/* The digest of the first `count` numbers of a result, which begin as 0. */
#define SHOW(name, call, result, count) do { \
        memset(result, 0, (size_t)(count) * sizeof *(result)); \
        call; \
        show(result, (count) * (int64_t)sizeof *(result), name); \
    } while (0)

/* --- functions of numbers --- */

enum { N = 5003 };

static void show_elementary(void) {
    float *x = room(N, 4), *a = room(N, 4), *b = room(N, 4), *c = room(N, 4), *out = room(N, 4);
    double *X = room(N, 8), *A = room(N, 8), *B = room(N, 8), *C = room(N, 8), *OUT = room(N, 8), scalars[64];
    for (int i = 0; i < N; i++) {
        X[i] = i % 2 ? number() * 800 : any_double(-1070 + 48, 1023);
        x[i] = (float)(i % 2 ? number() * 120 : any_double(-140, 127));
    }
    SHOW("exp_f32", ds_exp_f32(N, x, out), out, N);
    SHOW("exp_f64", ds_exp_f64(N, X, OUT), OUT, N);
    for (int i = 0; i < 64; i++) scalars[i] = ds_exp(number() * 700);
    show(scalars, sizeof scalars, "exp");
    for (int i = 0; i < N; i++) {
        x[i] = (float)((number() - 1) * 37);
        X[i] = (number() - 1) * 345;
    }
    SHOW("exp_inside_f32", ds_exp_inside_f32(N, x, out), out, N);
    SHOW("exp_inside_f64", ds_exp_inside_f64(N, X, OUT), OUT, N);
    for (int i = 0; i < N; i++) X[i] = i % 2 ? 1 + number() * 0.5 : __builtin_fabs(any_double(-1022, 1023));
    X[0] = 0x1p-1074;
    SHOW("log_f64", ds_log_f64(N, X, OUT), OUT, N);
    for (int i = 0; i < 64; i++) scalars[i] = ds_log(2 + number());
    show(scalars, sizeof scalars, "log");
    for (int i = 0; i < N; i++) X[i] = i % 2 ? 2 + number() : __builtin_fabs(any_double(0, 40));
    SHOW("log_inside_f64", ds_log_inside_f64(N, X, OUT), OUT, N);
    for (int i = 0; i < N; i++) {
        A[i] = any_double(-510, 500), B[i] = any_double(-510, 500), C[i] = any_double(-1022, 1000);
        a[i] = (float)any_double(-75, 60), b[i] = (float)any_double(-75, 60), c[i] = (float)any_double(-148, 120);
        if (i % 3 == 0) C[i] = -A[i] * B[i], c[i] = -a[i] * b[i]; /* what is left is what the rounding took away */
    }
    SHOW("fma_f32", ds_fma_f32(N, a, b, c, out), out, N);
    SHOW("fma_f64", ds_fma_f64(N, A, B, C, OUT), OUT, N);
    SHOW("scalar_fma_f32", ds_scalar_fma_f32(N, a, b, c, out), out, N);
    SHOW("scalar_fma_f64", ds_scalar_fma_f64(N, A, B, C, OUT), OUT, N);
    free(x), free(a), free(b), free(c), free(out), free(X), free(A), free(B), free(C), free(OUT);
}

/* --- parameters --- */

static void show_parameters(void) {
    enum { ROWS = 7, WIDTH = 77, STRIDE = 79, M = 67, INNER = 150 };
    double *a = doubles(ROWS * STRIDE, 3), *b = doubles(ROWS * STRIDE, 1), *out = room(ROWS * STRIDE, 8), number_of[1];
    SHOW("dot", *number_of = ds_dot(ROWS, WIDTH, a, STRIDE, b, STRIDE), number_of, 1);
    SHOW("total", *number_of = ds_total(ROWS, WIDTH, a, STRIDE), number_of, 1);
    SHOW("matrix_vector", ds_matrix_vector(ROWS, WIDTH, a, STRIDE, b, out), out, ROWS);
    SHOW("column_squares", ds_column_squares(ROWS, WIDTH, a, STRIDE, out), out, WIDTH);
    SHOW("axpy", memcpy(out, b, ROWS * STRIDE * 8); ds_axpy(ROWS, WIDTH, 0.7, a, STRIDE, out, STRIDE), out, ROWS * STRIDE);
    double *x = doubles(M * INNER, 1), *y = doubles(INNER * M, 1), *square = room(M * M, 8), *r = room(M * M, 8), *work = room(M * M, 8);
    float *x_f32 = floats(M * INNER, 1), *y_f32 = floats(INNER * M, 1), *square_f32 = room(M * M, 4);
    SHOW("product_f32", ds_product_f32(M, M, INNER, x_f32, INNER, 1, y_f32, M, 1, square_f32), square_f32, M * M);
    SHOW("product_f64", ds_product_f64(M, M, INNER, x, INNER, 1, y, 1, INNER, square), square, M * M);
    SHOW("gram_f32", ds_gram_f32(INNER, M, y_f32, M, 1, x_f32, square_f32), square_f32, M * M);
    SHOW("gram_f64", ds_gram_f64(INNER, M, y, M, 1, NULL, square), square, M * M);
    SHOW("cholesky", memcpy(r, square, M * M * 8); ds_cholesky(M, r), r, M * M);
    SHOW("inverse", ds_inverse(M, r, work, square), square, M * M);
    SHOW("cholesky_solve", memcpy(out, a, M * 8); ds_cholesky_solve(M, r, out), out, M);
    SHOW("hessian", ds_hessian(INNER, 6, 11, x, y, x + 6 * INNER, square), square, 66 * 66);
    free(a), free(b), free(out), free(x), free(y), free(square), free(work), free(r), free(x_f32), free(y_f32), free(square_f32);
}

/* --- samples --- */

static const int64_t BYTES[] = {4, 8, 2, 1, 1, 2, 2, 1}; /* of each storage */
static const char *const STORAGES[] = {"float32", "float64", "float16", "int8", "uint8", "int16", "uint16", "bool"};

static void *stored(int64_t count, int64_t storage) {
    if (storage == FLOAT32) return floats(count, 2);
    if (storage == FLOAT64) return doubles(count, 2);
    unsigned char *array = room(count, BYTES[storage]);
    for (int64_t i = 0; i < count * BYTES[storage]; i++) array[i] = (unsigned char)integer();
    if (storage == FLOAT16) for (int64_t i = 0; i < count; i++) ((uint16_t *)array)[i] &= 0xbfff; /* below 2 */
    if (storage == BOOL) for (int64_t i = 0; i < count; i++) array[i] &= 1;
    return array;
}

static void *reals(int single, int64_t count, double scale) {
    return single ? (void *)floats(count, scale) : (void *)doubles(count, scale);
}

/* What a case asks for: the bits of `with`. */
enum { WEIGHTED = 1, STANDARDISED = 2, TAKEN = 4 };

static void label(samples *x, int64_t n_classes, int with) {
    int64_t *classes = room(x->n_rows, 8), *rows = room(x->n_rows, 8);
    double *weights = room(x->n_rows, 8);
    for (int64_t i = 0; i < x->n_rows; i++) {
        classes[i] = below(n_classes);
        weights[i] = (double)below(1024) * 0x1p-8;
        rows[i] = below(x->n_rows);
    }
    x->classes = classes;
    x->weights = with & WEIGHTED ? weights : NULL;
    x->rows = with & TAKEN ? rows : NULL;
    x->n_taken = with & TAKEN ? x->n_rows - 3 : x->n_rows;
}

static scorer packed(kernels core, int64_t n_classes, int64_t n_features, int sparse, double beyond) {
    int64_t most = (n_classes + 63) / 16 * 16;
    double *parameters = doubles(n_classes * (n_features + 1), 0.5);
    void *coef = room(most * (n_features + 1), 8), *intercept = room(most, 8);
    core.pack(n_classes, n_features, sparse, parameters, beyond, coef, intercept);
    free(parameters);
    return (scorer){n_classes, n_features, coef, intercept};
}

static void show_kernels(const char *name, int single, int64_t n_classes, int64_t n_features, const samples *x) {
    kernels core = kernels_of(single, n_classes);
    int64_t n_coef = n_classes * n_features, stride = n_classes <= 8 ? 8 : (n_classes + 15) / 16 * 16;
    scorer at = packed(core, n_classes, n_features, x->starts != NULL, -__builtin_inf());
    scorer direction = packed(core, n_classes, n_features, x->starts != NULL, 0);
    double *scale = room(n_features, 8), *hessian = room(n_classes * n_classes, 8), loss[1];
    for (int64_t j = 0; j < n_features; j++) scale[j] = j % 3 ? 0x1p24 : 0x1p30;
    int64_t *sums = room(n_coef + n_classes + 2, 8), *predicted = room(x->n_taken, 8), n_sums = n_coef + n_classes + 2;
    char *kept = room(x->n_rows * stride, core.bytes);
    totals to = {scale, 0x1p40, 0x1p30, sums, sums + n_coef, sums + n_coef + n_classes};
#define SHOW_KERNEL(call, result, bytes) do { \
        memset(result, 0, (size_t)(bytes)); \
        int status = core.call; \
        show(result, bytes, "%s %s %lld classes: %.*s = %d", name, core.name, (long long)n_classes, \
             (int)strcspn(#call, "("), #call, status); \
    } while (0)
    SHOW_KERNEL(loss_and_gradient(&at, x, &to), sums, n_sums * 8);
    SHOW_KERNEL(hessian_product(&direction, &at, NULL, x, &to), sums, n_sums * 8);
    SHOW_KERNEL(loss_and_prediction(&at, x, loss, predicted), loss, 8);
    show(predicted, x->n_taken * 8, "%s %s %lld classes: predicted", name, core.name, (long long)n_classes);
    SHOW_KERNEL(intercept_hessian(&at, x, hessian), hessian, n_classes * n_classes * 8);
    SHOW_KERNEL(probabilities(&at, x, kept, stride), kept, x->n_taken * stride * core.bytes);
    if (!x->rows) SHOW_KERNEL(hessian_product(&direction, &at, kept, x, &to), sums, n_sums * 8);
    free(scale), free(hessian), free(sums), free(predicted), free(kept);
}

static void show_dense(int single, int64_t storage, int64_t n_classes, int64_t n_rows, int64_t n_features, int with) {
    samples x = {n_rows, n_features, storage, n_features * BYTES[storage], single, stored(n_rows * n_features, storage),
                 .index_bytes = 0};
    char name[64];
    snprintf(name, sizeof name, "dense %s %lldx%lld with %d", STORAGES[storage], (long long)n_rows, (long long)n_features, with);
    if (with & STANDARDISED) x.mean = reals(single, n_features, 1), x.inverse = reals(single, n_features, 4);
    label(&x, n_classes, with);
    show_kernels(name, single, n_classes, n_features, &x);

    double *sums = room(n_classes * (n_features + 16), 8), *mean = doubles(n_features, 1), *norms = room(n_rows, 8);
    for (int64_t what = 0; what < 3; what++) {
        memset(sums, 0, (size_t)n_features * 8);
        ds_sum_columns(&x, what, mean, sums);
        show(sums, n_features * 8, "%s %d: sum %lld of columns", name, single, (long long)what);
    }
    memset(sums, 0, (size_t)(n_classes * (n_features + 16)) * 8);
    ds_sum_by_class(&x, sums, n_features + 16);
    for (int64_t k = 0; k < n_classes; k++) memset(sums + k * (n_features + 16) + n_features, 0, 16 * 8);
    show(sums, n_classes * (n_features + 16) * 8, "%s %d: sums by class", name, single);
    ds_row_norms(&x, mean, NULL, 0, norms);
    show(norms, n_rows * 8, "%s %d: norms of rows", name, single);
    free((void *)x.values), free(sums), free(mean), free(norms);
}

static void show_sparse(int single, int64_t index_bytes, int64_t n_classes, int64_t n_rows, int64_t n_occurring, int with) {
    int64_t *starts = room(n_rows + 1, 8), *indices = room(n_rows * n_occurring, 8), *numbers = room(n_occurring, 8), n = 0;
    int32_t *starts_32 = room(n_rows + 1, 4), *indices_32 = room(n_rows * n_occurring, 4);
    for (int64_t row = 0; row < n_rows; row++) {
        for (int64_t j = 0; j < n_occurring; j++)
            if (below(4) == 0) indices_32[n] = (int32_t)j, indices[n++] = j;
        starts_32[row + 1] = (int32_t)n, starts[row + 1] = n;
    }
    for (int64_t j = 0; j < n_occurring; j++) numbers[j] = 2 * j + 1;
    samples x = {n_rows, n_occurring, single ? FLOAT32 : FLOAT64, 0, single, reals(single, n, 1),
                 .index_bytes = index_bytes};
    x.starts = index_bytes == 4 ? (void *)starts_32 : starts;
    x.indices = index_bytes == 4 ? (void *)indices_32 : indices;
    x.columns = numbers;
    label(&x, n_classes, with);
    char name[64];
    snprintf(name, sizeof name, "sparse, %lld bytes, %lld rows, with %d", (long long)index_bytes, (long long)n_rows, with);
    show_kernels(name, single, n_classes, 2 * n_occurring + 1, &x);

    double *sums = room(n_classes * n_occurring, 8), *mean = doubles(n_occurring, 1), *norms = room(n_rows, 8);
    for (int64_t what = 0; what < 4; what++) {
        memset(sums, 0, (size_t)n_occurring * 8);
        ds_sum_columns(&x, what, mean, sums);
        show(sums, n_occurring * 8, "%s %d: sum %lld of columns", name, single, (long long)what);
    }
    memset(sums, 0, (size_t)(n_classes * n_occurring) * 8);
    ds_sum_by_class(&x, sums, n_occurring);
    show(sums, n_classes * n_occurring * 8, "%s %d: sums by class", name, single);
    ds_row_norms(&x, mean, mean, 0.3, norms);
    show(norms, n_rows * 8, "%s %d: norms of rows", name, single);
    free(starts), free(indices), free(numbers), free(starts_32), free(indices_32), free(sums), free(mean), free(norms);
}

int main(void) {
    show_elementary();
    show_parameters();
    for (int single = 0; single < 2; single++) {
        int64_t own = single ? FLOAT32 : FLOAT64;
        show_dense(single, own, 2, 300, 1, 0);
        show_dense(single, own, 3, 330, 54, WEIGHTED);
        show_dense(single, own, 8, 65, 17, TAKEN);
        show_dense(single, own, 10, 600, 33, STANDARDISED | WEIGHTED);
        show_dense(single, own, 50, 70, 130, WEIGHTED | TAKEN);
        show_dense(single, own, 130, 66, 20, 0);
        for (int64_t storage = 0; storage <= BOOL; storage++) {
            if (storage == FLOAT64) continue;
            show_dense(single, storage, 7, 67, 19, STANDARDISED | (int)storage % 2 * WEIGHTED);
            show_dense(single, storage, 20, 67, 37, (int)storage % 2 * TAKEN);
        }
        for (int64_t bytes = 4; bytes <= 8; bytes += 4) {
            show_sparse(single, bytes, 2, 100, 40, 0);
            show_sparse(single, bytes, 10, 300, 60, WEIGHTED | TAKEN);
            show_sparse(single, bytes, 37, 70, 50, WEIGHTED);
        }
    }
    return 0;
}
