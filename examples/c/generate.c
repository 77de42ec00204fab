/* Text from a saved model, in C alone: the library, its header and a flat file.
 *
 *   python -c "import unrolled; unrolled.Decoder.load('my.safetensors').export('my.flat')"
 *   cc generate.c -I native/include -L build/native -lunrolled -o generate
 *   ./generate my.flat "Once upon" 200
 *
 * Prints the likeliest text, up to 200 tokens. The prompt is cut into the longest tokens that fit, which is right for
 * models of characters and bytes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unrolled.h"

static char message[UNROLLED_MESSAGE];
static char *place, *end; /* what is not read yet of the file, which stays in memory */

static void fail(const char *what) {
  fprintf(stderr, "generate: %s\n", what);
  exit(2);
}

static void *block(int64_t *bytes) {
  if (end - place < 64) fail("the file is cut short");
  memcpy(bytes, place, 8);
  void *data = place + 64;
  if (*bytes < 0 || *bytes > end - place - 64) fail("the file is cut short");
  place += 64 + (*bytes + 63) / 64 * 64;
  return data;
}

static const void **blocks(int64_t count) {
  const void **list = malloc((count + 1) * sizeof *list);
  int64_t bytes;
  for (int64_t i = 0; i < count; ++i) {
    list[i] = block(&bytes);
    if (bytes == 0) list[i] = NULL;
  }
  return list;
}

int main(int argc, char **argv) {
  if (argc != 4) fail("usage: generate FILE PROMPT TOKENS");
  FILE *file = fopen(argv[1], "rb");
  if (!file || fseek(file, 0, SEEK_END)) fail("the file cannot be read");
  long size = ftell(file);
  rewind(file);
  place = aligned_alloc(64, (size + 63) / 64 * 64);
  if (!place || (long)fread(place, 1, size, file) != size) fail("the file cannot be read");
  end = place + size;
  int64_t n[16];
  if (size < 128 || memcmp(place, "UNROLLED", 8)) fail("this is no flat file of unrolled");
  memcpy(n, place, 128);
  place += 128;
  if (n[1] != 1) fail("the file is of another version");

  /* n[2] arrays, matrices, registers, products, instructions, stages, tables, independent,
   * n[10] states, inputs, logits, state_stages, int8, n[15] vocabulary */
  int64_t bytes;
  unrolled_plan_description d = {n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9]};
  d.array = block(&bytes), d.product = block(&bytes), d.instruction = block(&bytes), d.stage = block(&bytes);
  d.matrix_rows = block(&bytes), d.matrix_columns = block(&bytes);
  unrolled_plan *plan;
  if (unrolled_plan_create(&d, &plan, message)) fail(message);

  unrolled_decoder_description e = {.plan = plan, .states = n[10], .inputs = n[11], .logits = n[12],
                                    .state_stages = n[13], .int8 = n[14]};
  e.state_before = block(&bytes), e.state_after = block(&bytes), e.input = block(&bytes);
  e.matrix = blocks(n[3]);
  e.fixed = (const float *const *)blocks(n[2]);
  e.table = (const float *const *)blocks(n[11]);
  const int64_t *first_byte = block(&bytes);
  const char *text = block(&bytes);
  unrolled_decoder *decoder;
  if (unrolled_decoder_create(&e, &decoder, message)) fail(message);

  int64_t vocabulary = n[15], wanted = atoll(argv[3]), prompt = 0;
  int32_t *tokens = malloc((strlen(argv[2]) + wanted + 1) * sizeof *tokens);
  for (const char *c = argv[2]; *c;) {
    int64_t best = -1, longest = 0;
    for (int64_t t = 0; t < vocabulary; ++t) {
      int64_t length = first_byte[t + 1] - first_byte[t];
      if (length > longest && !strncmp(c, text + first_byte[t], length)) best = t, longest = length;
    }
    if (best < 0) fail("the prompt has a character that the model does not know");
    tokens[prompt++] = best;
    c += longest;
  }
  if (prompt == 0) fail("the prompt is empty");

  unrolled_stream stream = {.state = calloc(unrolled_decoder_state_size(decoder) + 1, sizeof(float)),
                            .logits = calloc(vocabulary, sizeof(float)),
                            .tokens = tokens, .before = prompt, .wanted = wanted,
                            .repetition_penalty = 1, .temperature = 0, .log_min_p = -INFINITY, .top_p = 1};
  if (unrolled_decoder_read(decoder, 1, prompt, tokens, &stream.state, stream.logits, 0, 1, message)) fail(message);
  unrolled_stream *streams[] = {&stream};
  if (unrolled_decoder_write(decoder, streams, 1, 1, message)) fail(message);
  for (int64_t i = prompt; i < prompt + stream.written; ++i)
    fwrite(text + first_byte[tokens[i]], 1, first_byte[tokens[i] + 1] - first_byte[tokens[i]], stdout);
  unrolled_decoder_destroy(decoder);
  unrolled_plan_destroy(plan);
  return 0;
}
