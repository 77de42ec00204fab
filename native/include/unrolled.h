/* The native engine: one step of a recurrent network, as instructions, run over time on float32 matrices.
 *
 * A plan is the step; a run gives it memory. The library keeps nothing of a run and owns no tensor.
 * Every function that can fail returns a status and writes one line to `message` (of UNROLLED_MESSAGE bytes).
 */
#ifndef UNROLLED_H
#define UNROLLED_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

#define UNROLLED_ABI 11
#define UNROLLED_MESSAGE 256
/* Units are handled in blocks of so many. An array of `rows` rows lies in memory block by block: unit u of row r is float
 * (u / 16 * rows + r) * 16 + u % 16, so that the rows of a block, which are worked on together, are neighbours. */
#define UNROLLED_BLOCK 16

enum { UNROLLED_OK = 0, UNROLLED_INVALID = 1, UNROLLED_NO_MEMORY = 2 };

/* Of the factors of products. Sums, and all that is no product, are float32; bfloat16 is where unrolled_bf16() says so. */
enum { UNROLLED_FP32 = 0, UNROLLED_BF16 = 1 };

enum {
  UNROLLED_COPY = 0,
  UNROLLED_ADD = 1,
  UNROLLED_SUB = 2,
  UNROLLED_MUL = 3,
  UNROLLED_DIV = 4,
  UNROLLED_NEG = 5,
  UNROLLED_SIGMOID = 6,
  UNROLLED_TANH = 7,
  UNROLLED_RELU = 8,
  UNROLLED_SOFTPLUS = 9,
  UNROLLED_EXP = 10,
  UNROLLED_LOG = 11,
  UNROLLED_SQRT = 12,
  UNROLLED_ABS = 13,
  UNROLLED_MAXIMUM = 14,
  UNROLLED_MINIMUM = 15,
  UNROLLED_SIGN = 16,
  UNROLLED_ACCUMULATE = 17 /* destination: a per-thread array; adds the sum of `a` over the rows of the step */
};

/* How the rows of an array are found at step s, row r: */
enum {
  UNROLLED_ROWS = 0,      /* row offsets[table][s] + r; table -1: row r */
  UNROLLED_BROADCAST = 1, /* row 0, whatever s and r */
  UNROLLED_PER_THREAD = 2, /* the row of the running thread; only UNROLLED_ACCUMULATE writes it */
  UNROLLED_INDEXED = 3,    /* row index[offsets[table][s] + r], table -1: index[r]; only instructions read it */
  UNROLLED_OUTSIDE = 4     /* memory of the caller's that is no array: unit u of row r is float offsets[table][s] (table
                              -1: 0) + r * row_stride + u; its width is whole blocks, and only instructions touch it */
};

typedef struct {
  int32_t addressing;
  int32_t table;
  int64_t width;  /* units in use */
  int64_t stride; /* width and what pads it: a multiple of UNROLLED_BLOCK */
} unrolled_array;

/* Operands: 0 .. arrays-1 is an array, from `arrays` on a register (a block of values that lives in one stage). */
typedef struct {
  int32_t opcode, destination, a, b; /* b is ignored by operations of one argument */
} unrolled_instruction;

/* register `destination` of the stage = (accumulate: itself +) matrix x array `vector` */
typedef struct {
  int32_t matrix, vector, destination, accumulate;
} unrolled_product;

/* A stage: some products, then instructions on their results. Its products may read what earlier stages wrote. */
typedef struct {
  int64_t units; /* length of every vector the stage makes */
  int32_t first_product, products, first_instruction, instructions;
} unrolled_stage;

typedef struct {
  int32_t arrays, matrices, registers, products, instructions, stages, tables;
  int32_t independent; /* 1: no step reads what another wrote, so steps may run at the same time */
  int32_t precision;
  const unrolled_array *array;
  const unrolled_product *product;
  const unrolled_instruction *instruction;
  const unrolled_stage *stage;
  const int64_t *matrix_rows, *matrix_columns;
} unrolled_plan_description;

typedef struct {
  int64_t steps;
  const int64_t *active;   /* rows of each step */
  const int64_t *offsets;  /* [tables][steps]: the first row of each step */
  float *const *array;     /* 64-byte aligned; two arrays are the same memory or have none in common */
  const int64_t *array_rows; /* of UNROLLED_OUTSIDE arrays: floats */
  const float *const *matrix; /* packed in the plan's precision */
  int32_t threads;            /* at most so many; UNROLLED_PER_THREAD arrays have at least so many rows */
  const int64_t *index;       /* `index_rows` rows of UNROLLED_INDEXED arrays */
  int64_t index_rows;
  const int64_t *row_stride; /* of each array, read of UNROLLED_OUTSIDE ones; NULL if there are none */
} unrolled_run_arguments;

typedef struct unrolled_plan unrolled_plan;

int unrolled_abi(void);
const char *unrolled_instruction_set(void);
/* 1 if this machine multiplies bfloat16, else 0. */
int unrolled_bf16(void);

int unrolled_plan_create(const unrolled_plan_description *description, unrolled_plan **plan, char *message);
void unrolled_plan_destroy(unrolled_plan *plan);
int unrolled_plan_run(const unrolled_plan *plan, const unrolled_run_arguments *arguments, char *message);

/* Floats that the packed form of a (rows x columns) matrix takes, -1 if it has none. */
int64_t unrolled_packed_size(int64_t rows, int64_t columns, int32_t precision);
/* Packs `matrix` in float32 (element (r, c) at r * row_stride + c * column_stride): transposing is swapping the strides. */
int unrolled_pack(const float *matrix, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride,
                  float *packed, int32_t threads, char *message);

/* Packs `count` matrices at once. */
typedef struct {
  const float *matrix;
  int64_t rows, columns, row_stride, column_stride;
  float *packed;
} unrolled_matrix;
int unrolled_pack_all(const unrolled_matrix *matrices, int64_t count, int32_t precision, int32_t threads, char *message);

/* Rows in any order and memory: row i begins at float index[i] * row_stride (index NULL: i * row_stride), its blocks of
 * 16 units are `block_stride` floats apart. An array of the engine has row stride 16 and block stride 16 * rows, the rows
 * of a matrix block stride 16. */
typedef struct {
  float *data;
  const int64_t *index;
  int64_t row_stride, block_stride;
} unrolled_rows;
/* to[i] = from[i] for i < rows, `width` units each; `pad` not 0: zeros up to a whole block. */
int unrolled_copy_rows(const unrolled_rows *to, const unrolled_rows *from, int64_t rows, int64_t width, int32_t pad,
                       int32_t threads, char *message);
/* to[i] += from[i] for i < rows, one after the other, `width` units each: rows of `to` may be the same. */
int unrolled_add_rows(const unrolled_rows *to, const unrolled_rows *from, int64_t rows, int64_t width, int32_t threads,
                      char *message);

/* A number that tells most changes of `count` floats: of 64 of them, spread evenly. */
uint64_t unrolled_fingerprint(const float *values, int64_t count);

/* result[i] (m x n, row stride ldr[i]) = (accumulate: itself +) a[i]^T b for i < count, over the first k rows of the
 * arrays a[i] (of a_rows[i] rows, m units) and b (of b_rows rows, n units): gradients of weights, sums over all steps
 * and rows. */
int unrolled_outer(int32_t count, const float *const *a, const int64_t *a_rows, const float *b, int64_t b_rows, int64_t m,
                   int64_t n, int64_t k, float *const *result, const int64_t *ldr, int32_t accumulate,
                   int32_t precision, int32_t threads, char *message);

/* losses[r] = log(sum of exp(logits of row r)) - the logit targets[r], of `rows` rows of `classes` logits of the precision,
 * floats or 16 bits each, side by side. The logits become the gradients of the losses' sum times `scale`. */
int unrolled_cross_entropy(void *logits, int32_t precision, const int64_t *targets, int64_t rows, int64_t classes,
                           float scale, float *losses, int32_t threads, char *message);

/* to[i] = 0 for a random `dropped` 256ths of all i, from[i] scaled up to make up for it for the others; `from` may be `to`.
 * Which ones is a function of `seed` and i alone. */
int unrolled_dropout(const float *from, float *to, int64_t count, uint64_t seed, int32_t dropped, int32_t threads,
                     char *message);

/* Calls of unrolled_plan_run, unrolled_pack_all, unrolled_copy_rows, unrolled_add_rows and unrolled_outer, one after the
 * other up to the first that fails. The arguments are those of the function but the message, each in a word. */
enum {
  UNROLLED_CALL_RUN = 0,
  UNROLLED_CALL_PACK = 1,
  UNROLLED_CALL_COPY = 2,
  UNROLLED_CALL_ADD = 3,
  UNROLLED_CALL_OUTER = 4
};
typedef struct {
  int64_t function;
  const int64_t *arguments;
} unrolled_call;
/* A list may be played again with memory elsewhere: before its calls word[patch.word] becomes bases[patch.slot] +
 * patch.offset for all patches. */
typedef struct {
  int64_t word, slot, offset;
} unrolled_patch;
typedef struct {
  const unrolled_call *call;
  int64_t calls;
  int64_t *word;
  int64_t words;
  const unrolled_patch *patch;
  int64_t patches, slots;
} unrolled_list;
/* The calls from the `first` on; `bases` has a number for each slot. */
int unrolled_play(const unrolled_list *list, int64_t first, const int64_t *bases, char *message);

/* Runs `rounds` rounds of multiply-adds on registers on `threads` threads and returns how many floating-point operations
 * they were: with a clock around it, the peak of the machine. */
double unrolled_multiply_adds(int64_t rounds, int32_t threads);

/* y[i] = op(a[i], b[i]) for i < count, for tests of the operations' accuracy. */
int unrolled_pointwise(int32_t opcode, const float *a, const float *b, float *y, int64_t count, char *message);

/* Decoding: a model that reads and writes tokens. A decoder is a plan of the model's whole step with its memory, all of
 * which stays the caller's and must outlive it. What a stream of tokens is, is in its `unrolled_stream`: copying that is
 * forking the stream. Whoever else is in a call, a stream computes the same bits as alone. */
typedef struct {
  const unrolled_plan *plan;
  const void *const *matrix;  /* packed in float32, or if `int8` is not 0 by unrolled_int8_pack */
  const float *const *fixed;  /* for each array of the plan: its only row, or NULL for one that a call makes */
  int32_t states, inputs, logits, state_stages; /* logits: an array; state_stages: so many make all new states */
  int32_t int8;
  const int32_t *state_before, *state_after;    /* arrays, one of each a state */
  const int32_t *input;                         /* arrays that hold a token's row of a table */
  const float *const *table;                    /* vocabulary rows, with the stride of the input's array */
} unrolled_decoder_description;

typedef struct {
  float *state;    /* the states one after the other, unpadded: unrolled_decoder_state_size floats; read and written */
  float *logits;   /* of the next token, vocabulary floats; read and written */
  int32_t *tokens; /* `before` tokens that came earlier, then room for `wanted` */
  int64_t before, wanted;
  /* As in generation/sampling.py, and in its ranges; log_min_p is at most 0, and -infinity for no min_p. */
  double repetition_penalty, temperature, log_min_p, top_p;
  int64_t repetition_window, top_k;
  uint64_t seed, counter; /* of the random numbers; `counter` is written */
  int64_t written;        /* result: tokens made, `wanted` unless logits were bad */
  int64_t bad_logits;     /* result: how many logits are not finite; above 0 the stream stopped before them */
} unrolled_stream;

typedef struct unrolled_decoder unrolled_decoder;

/* Bytes that the packed form of a (rows x columns) matrix of 8-bit numbers takes. */
int64_t unrolled_int8_size(int64_t rows, int64_t columns);
/* Packs numbers from -127 to 127, of which row r counts scale[r] times. */
int unrolled_int8_pack(const int8_t *matrix, const float *scale, int64_t rows, int64_t columns, int64_t row_stride,
                       void *packed, char *message);

int unrolled_decoder_create(const unrolled_decoder_description *description, unrolled_decoder **decoder, char *message);
void unrolled_decoder_destroy(unrolled_decoder *decoder);
int64_t unrolled_decoder_vocabulary(const unrolled_decoder *decoder);
int64_t unrolled_decoder_state_size(const unrolled_decoder *decoder);
/* Reads `steps` tokens into each of `rows` states. tokens is (rows x steps). logits is (rows x vocabulary), of what
 * follows the last token, or if `every` is not 0 (rows x steps x vocabulary). */
int unrolled_decoder_read(const unrolled_decoder *decoder, int64_t rows, int64_t steps, const int32_t *tokens,
                          float *const *state, float *logits, int32_t every, int32_t threads, char *message);
/* Writes `wanted` tokens of each stream: chooses one from the logits, reads it, and so on. */
int unrolled_decoder_write(const unrolled_decoder *decoder, unrolled_stream *const *streams, int64_t count,
                           int32_t threads, char *message);
/* The token that the stream's settings choose from `logits`, as `unrolled_decoder_write` does; counts on
 * `stream->counter`. Result -1: `stream->bad_logits` of them are not finite, or if that is 0, an argument is wrong. */
int32_t unrolled_choose(const float *logits, int64_t vocabulary, unrolled_stream *stream);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
