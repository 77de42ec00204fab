// Reading and writing tokens: streams get rows of the step's arrays, threads share the units, and each stream is sampled
// by one of them.
#include "decode.h"

#include <algorithm>
#include <new>

#include "sampling.h"
#include "status.h"

namespace unrolled {
namespace {

constexpr int64_t steps_at_once = 32;
constexpr int64_t most_rows = 1 << 24, most_steps = int64_t(1) << 38, most_threads = 1024;

int check(const unrolled_decoder_description &d, char *message) {
  if (!d.plan || (!d.plan->matrix_rows.empty() && !d.matrix) || (!d.plan->arrays.empty() && !d.fixed))
    return invalid(message, "a decoder without plan, matrices or arrays");
  if (d.plan->bf16) return invalid(message, "a decoder of products in bfloat16");
  const int arrays = int(d.plan->arrays.size());
  const auto made = [&](int32_t a) {
    return a >= 0 && a < arrays && !d.fixed[a] && d.plan->arrays[a].addressing == UNROLLED_ROWS;
  };
  if (d.states < 0 || d.inputs < 0 || d.states > arrays || d.inputs > arrays ||
      (d.states && (!d.state_before || !d.state_after)) || (d.inputs && (!d.input || !d.table)))
    return invalid(message, "a decoder of %d states and %d inputs", d.states, d.inputs);
  for (int i = 0; i < d.states; ++i)
    if (!made(d.state_before[i]) || !made(d.state_after[i]) || d.state_before[i] == d.state_after[i] ||
        d.plan->arrays[d.state_before[i]].width != d.plan->arrays[d.state_after[i]].width ||
        d.plan->arrays[d.state_before[i]].stride != d.plan->arrays[d.state_after[i]].stride)
      return invalid(message, "state %d is not in two arrays of its own and of one size", i);
  for (int i = 0; i < d.inputs; ++i)
    if (!made(d.input[i]) || !d.table[i]) return invalid(message, "input %d is no array with a table", i);
  if (!made(d.logits)) return invalid(message, "the logits are no array of the plan");
  if (d.state_stages < 0 || d.state_stages > int(d.plan->stages.size()))
    return invalid(message, "%d stages make the states", d.state_stages);
  for (int i = 0; i < arrays; ++i) {
    if (d.plan->arrays[i].addressing >= UNROLLED_PER_THREAD)
      return invalid(message, "array %d is per thread or indexed, which a decoder has not", i);
    if ((d.plan->arrays[i].addressing == UNROLLED_BROADCAST) != (d.fixed[i] != nullptr))
      return invalid(message, d.fixed[i] ? "array %d has a row for all, but rows of its own" : "array %d has no row", i);
  }
  for (size_t i = 0; i < d.plan->matrix_rows.size(); ++i)
    if (!d.matrix[i] || (d.int8 && unrolled_int8_size(d.plan->matrix_rows[i], d.plan->matrix_columns[i]) < 0))
      return invalid(message, "matrix %zu is missing, or too large for 8-bit numbers", i);
  return UNROLLED_OK;
}

// More threads than the widest stage has blocks of units would find nothing to do.
int useful_threads(const unrolled_decoder &d, int32_t most) {
  int64_t blocks = 1;
  for (const Stage &stage : d.plan->stages) blocks = std::max(blocks, (stage.units + block - 1) / block);
  return int(std::min<int64_t>({most, blocks, most_threads}));
}

void read(const unrolled_decoder &d, int64_t rows, int64_t steps, const int32_t *tokens, float *const *state,
          float *logits, bool every, int threads_asked) {
  WorkMemory memory(d, rows, threads_asked, false);
  std::atomic<bool> failed{false};
  Barrier barrier(failed);
  parallel(threads_asked, failed, [&](int thread, int threads) {
    Stepper stepper(d, memory, thread, threads, barrier);
    for (int64_t r = thread; r < rows; r += threads) stepper.set_state(r, state[r]);
    for (int64_t s = 0; s < steps; ++s) {
      const bool wanted = logits && (every || s + 1 == steps);
      for (int64_t r = thread; r < rows; r += threads) stepper.enter(r, tokens[r * steps + s]);
      stepper.step(rows, wanted);
      for (int64_t r = thread; wanted && r < rows; r += threads)
        std::copy_n(stepper.logits(r), d.vocabulary, logits + (every ? r * steps + s : r) * d.vocabulary);
    }
    for (int64_t r = thread; r < rows; r += threads) stepper.get_state(r, state[r]);
  });
}

// As `read`, of one row, many steps at once.
void read_one(const unrolled_decoder &d, int64_t steps, const int32_t *tokens, float *state, float *logits, bool every,
              int threads_asked) {
  const int64_t most = std::min(steps, steps_at_once);
  WorkMemory memory(d, most, threads_asked, true);
  std::atomic<bool> failed{false};
  Barrier barrier(failed);
  parallel(threads_asked, failed, [&](int thread, int threads) {
    Stepper stepper(d, memory, thread, threads, barrier);
    if (thread == 0) stepper.set_state(0, state);
    for (int64_t s = 0; s < steps; s += most) {
      const int64_t rows = std::min(most, steps - s);
      const int64_t unwanted = !logits ? rows : every ? 0 : s + rows < steps ? rows : rows - 1;
      for (int64_t r = thread; r < rows; r += threads) stepper.enter(r, tokens[s + r]);
      stepper.steps(rows, unwanted);
      for (int64_t r = unwanted + thread; r < rows; r += threads)
        std::copy_n(stepper.logits(r), d.vocabulary, logits + (every ? s + r : 0) * d.vocabulary);
      if (thread == 0) {
        stepper.get_state(rows, state);
        stepper.set_state(0, state);
      }
    }
  });
}

// `streams` are sorted by `wanted`, the largest first, so those still writing are the first rows.
void write(const unrolled_decoder &d, const std::vector<unrolled_stream *> &streams, int threads_asked) {
  const int64_t rows = int64_t(streams.size());
  WorkMemory memory(d, rows, threads_asked, false);
  std::atomic<bool> failed{false};
  Barrier barrier(failed);
  parallel(threads_asked, failed, [&](int thread, int threads) {
    Stepper stepper(d, memory, thread, threads, barrier);
    SamplingMemory sampling;
    for (int64_t r = thread; r < rows; r += threads) {
      stepper.set_state(r, streams[r]->state);
      std::copy_n(streams[r]->logits, d.vocabulary, stepper.logits(r));
      streams[r]->written = streams[r]->bad_logits = 0;
    }
    int64_t active = rows;
    for (int64_t s = 0;; ++s) {
      while (active > 0 && streams[active - 1]->wanted <= s) --active;
      if (active == 0) break;
      for (int64_t r = thread; r < active; r += threads) {
        unrolled_stream &stream = *streams[r];
        int32_t token = -1;
        if (stream.bad_logits == 0) {
          const int64_t count = std::min(stream.before + s, stream.repetition_window);
          token = choose(stepper.logits(r), d.vocabulary, stream.tokens + stream.before + s - count, count, stream,
                         sampling);
          if (token < 0) {  // it stops here; its row goes on for nobody
            stepper.get_state(r, stream.state);
            std::copy_n(stepper.logits(r), d.vocabulary, stream.logits);
          }
        }
        if (token >= 0) stream.tokens[stream.before + stream.written++] = token;
        stepper.enter(r, std::max(token, 0));
      }
      stepper.step(active, true);
      for (int64_t r = thread; r < active; r += threads)
        if (streams[r]->wanted == s + 1 && streams[r]->bad_logits == 0) {
          stepper.get_state(r, streams[r]->state);
          std::copy_n(stepper.logits(r), d.vocabulary, streams[r]->logits);
        }
    }
  });
}

}  // namespace
}  // namespace unrolled

int unrolled_decoder_create(const unrolled_decoder_description *d, unrolled_decoder **decoder, char *message) {
  using namespace unrolled;
  if (d == nullptr || decoder == nullptr) return invalid(message, "no description or no place for the decoder");
  if (int status = check(*d, message)) return status;
  try {
    auto made = std::make_unique<unrolled_decoder>();
    made->plan = d->plan;
    made->matrix.assign(d->matrix, d->matrix + d->plan->matrix_rows.size());
    made->fixed.assign(d->fixed, d->fixed + d->plan->arrays.size());
    made->before.assign(d->state_before, d->state_before + d->states);
    made->after.assign(d->state_after, d->state_after + d->states);
    made->input.assign(d->input, d->input + d->inputs);
    made->table.assign(d->table, d->table + d->inputs);
    made->int8 = d->int8 != 0;
    made->logits = d->logits;
    made->state_stages = d->state_stages;
    made->vocabulary = d->plan->arrays[d->logits].width;
    made->state_size = 0;
    for (int32_t a : made->before) made->state_size += made->width(a);
    find_segments(*made);
    *decoder = made.release();
    return UNROLLED_OK;
  } catch (const std::bad_alloc &) {
    invalid(message, "no memory for the decoder");
    return UNROLLED_NO_MEMORY;
  }
}

void unrolled_decoder_destroy(unrolled_decoder *decoder) { delete decoder; }
int64_t unrolled_decoder_vocabulary(const unrolled_decoder *decoder) { return decoder ? decoder->vocabulary : -1; }
int64_t unrolled_decoder_state_size(const unrolled_decoder *decoder) { return decoder ? decoder->state_size : -1; }

int unrolled_decoder_read(const unrolled_decoder *decoder, int64_t rows, int64_t steps, const int32_t *tokens,
                          float *const *state, float *logits, int32_t every, int32_t threads, char *message) {
  using namespace unrolled;
  if (!decoder || rows < 0 || rows > most_rows || steps < 0 || steps > most_steps || threads < 1 ||
      (rows > 0 && steps > 0 && (!tokens || !state)))
    return invalid(message, "reading %lld tokens in %lld rows on %d threads", (long long)steps, (long long)rows, threads);
  for (int64_t r = 0; steps > 0 && r < rows; ++r)
    if (state[r] == nullptr) return invalid(message, "row %lld has no state", (long long)r);
  for (int64_t i = 0; i < rows * steps; ++i)
    if (tokens[i] < 0 || tokens[i] >= decoder->vocabulary)
      return invalid(message, "there is no token %d, the vocabulary has %lld", tokens[i], (long long)decoder->vocabulary);
  if (rows == 0 || steps == 0) return UNROLLED_OK;
  try {
    const int useful = useful_threads(*decoder, threads);
    if (rows == 1 && decoder->by_segments)
      read_one(*decoder, steps, tokens, state[0], logits, every != 0, useful);
    else
      read(*decoder, rows, steps, tokens, state, logits, every != 0, useful);
    return UNROLLED_OK;
  } catch (const std::exception &) {  // there is no memory, or no vector of that size
    invalid(message, "no memory for %lld rows", (long long)rows);
    return UNROLLED_NO_MEMORY;
  }
}

int unrolled_decoder_write(const unrolled_decoder *decoder, unrolled_stream *const *streams, int64_t count,
                           int32_t threads, char *message) {
  using namespace unrolled;
  if (!decoder || count < 0 || count > most_rows || threads < 1 || (count > 0 && !streams))
    return invalid(message, "writing %lld streams on %d threads", (long long)count, threads);
  for (int64_t i = 0; i < count; ++i) {
    const unrolled_stream *s = streams[i];
    if (!s || !s->state || !s->logits || !s->tokens || s->before < 0 || s->wanted < 0)
      return invalid(message, "stream %lld is incomplete", (long long)i);
    if (!in_range(*s)) return invalid(message, "stream %lld has a setting out of range", (long long)i);
  }
  if (count == 0) return UNROLLED_OK;
  try {
    std::vector<unrolled_stream *> sorted(streams, streams + count);
    std::stable_sort(sorted.begin(), sorted.end(), [](auto *a, auto *b) { return a->wanted > b->wanted; });
    write(*decoder, sorted, useful_threads(*decoder, threads));
    return UNROLLED_OK;
  } catch (const std::exception &) {
    invalid(message, "no memory for %lld streams", (long long)count);
    return UNROLLED_NO_MEMORY;
  }
}
