// Decoding through the header alone: a small model of two recurrent layers reads and writes, alone and in company, on one
// thread and several, in float32 and in 8 bits; and refusals. This is what the sanitizers run (make sanitize).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "check.h"

namespace {

int64_t padded(int64_t width) { return (width + 15) / 16 * 16; }

// The numbers of a matrix, and its form for the engine: whole numbers times a scale, so that both precisions agree.
struct Matrix {
  int64_t rows, columns;
  std::vector<float> numbers;
  Memory packed;

  Matrix(int64_t rows, int64_t columns, bool int8) : rows(rows), columns(columns), packed(size(rows, columns, int8)) {
    const float scale = 1.0f / 512;
    std::vector<int8_t> whole(rows * columns);
    for (size_t i = 0; i < whole.size(); ++i) whole[i] = int8_t(int(i * 31 % 255) - 127);
    for (int8_t number : whole) numbers.push_back(scale * number);
    const std::vector<float> scales(rows, scale);
    const int status =
        int8 ? unrolled_int8_pack(whole.data(), scales.data(), rows, columns, columns, packed.data(), message)
             : unrolled_pack(numbers.data(), rows, columns, columns, 1, packed.data(), 1, message);
    CHECK(status == UNROLLED_OK);
  }

  static int64_t size(int64_t rows, int64_t columns, bool int8) {
    return int8 ? unrolled_int8_size(rows, columns) / 4 : unrolled_packed_size(rows, columns, UNROLLED_FP32);
  }
};

// h = tanh(W h + table[token]), g = tanh(R g + W h), logits = V g + b.
struct Model {
  enum { X, H_BEFORE, G_BEFORE, H_AFTER, G_AFTER, LOGITS, BIAS, ARRAYS };
  int64_t units, vocabulary, state_size;
  Matrix W, R, V;
  Memory table, bias;
  unrolled_plan *plan = nullptr;
  unrolled_decoder *decoder = nullptr;

  Model(int64_t units, int64_t vocabulary, bool int8)
      : units(units),
        vocabulary(vocabulary),
        state_size(2 * units),
        W(units, units, int8),
        R(units, units, int8),
        V(vocabulary, units, int8),
        table(vocabulary * padded(units)),
        bias(padded(vocabulary)) {
    for (int64_t t = 0; t < vocabulary; ++t)
      for (int64_t u = 0; u < units; ++u) table.data()[t * padded(units) + u] = value(t * 7 + u);
    for (int64_t t = 0; t < vocabulary; ++t) bias.data()[t] = value(t * 13);

    const unrolled_array row{UNROLLED_ROWS, -1, units, padded(units)};
    unrolled_array before = row, after = row;
    before.table = 0, after.table = 1;
    const unrolled_array arrays[] = {row,
                                     before,
                                     before,
                                     after,
                                     after,
                                     {UNROLLED_ROWS, 1, vocabulary, padded(vocabulary)},
                                     {UNROLLED_BROADCAST, -1, vocabulary, padded(vocabulary)}};
    const unrolled_product products[] = {
        {0, H_BEFORE, ARRAYS, 0}, {1, G_BEFORE, ARRAYS, 0}, {0, H_AFTER, ARRAYS, 1}, {2, G_AFTER, ARRAYS, 0}};
    const unrolled_instruction code[] = {{UNROLLED_ADD, ARRAYS, ARRAYS, X},
                                         {UNROLLED_TANH, H_AFTER, ARRAYS, ARRAYS},
                                         {UNROLLED_TANH, G_AFTER, ARRAYS, ARRAYS},
                                         {UNROLLED_ADD, LOGITS, ARRAYS, BIAS}};
    const unrolled_stage stages[] = {{units, 0, 1, 0, 2}, {units, 1, 2, 2, 1}, {vocabulary, 3, 1, 3, 1}};
    const int64_t rows[] = {units, units, vocabulary}, columns[] = {units, units, units};
    const unrolled_plan_description description{ARRAYS, 3,        1,    4,      4,    3,      2, 0, UNROLLED_FP32,
                                                arrays, products, code, stages, rows, columns};
    CHECK(unrolled_plan_create(&description, &plan, message) == UNROLLED_OK);

    const void *matrices[] = {W.packed.data(), R.packed.data(), V.packed.data()};
    const float *fixed[ARRAYS] = {};
    fixed[BIAS] = bias.data();
    const float *tables[] = {table.data()};
    const int32_t old_states[] = {H_BEFORE, G_BEFORE}, new_states[] = {H_AFTER, G_AFTER}, input = X;
    const unrolled_decoder_description made{plan, matrices, fixed,      2,          1,      LOGITS,
                                            2,    int8,     old_states, new_states, &input, tables};
    CHECK(starve([&] { return unrolled_decoder_create(&made, &decoder, message); }) > 0);
    CHECK(unrolled_decoder_vocabulary(decoder) == vocabulary && unrolled_decoder_state_size(decoder) == state_size);
  }

  ~Model() {
    unrolled_decoder_destroy(decoder);
    unrolled_plan_destroy(plan);
  }
};

// What is left of `rows` streams after reading: their states and the logits of every step.
struct Reading {
  std::vector<float> states, logits;

  Reading(const Model &model, int64_t rows, int64_t steps, const int32_t *tokens, int threads)
      : states(rows * model.state_size), logits(rows * steps * model.vocabulary) {
    std::vector<float *> state;
    for (int64_t r = 0; r < rows; ++r) state.push_back(states.data() + r * model.state_size);
    CHECK(unrolled_decoder_read(model.decoder, rows, steps, tokens, state.data(), logits.data(), 1, threads, message) ==
          UNROLLED_OK);
  }
};

std::vector<int32_t> some_tokens(int64_t count, int64_t vocabulary) {
  std::vector<int32_t> tokens(count);
  for (int64_t i = 0; i < count; ++i) tokens[i] = int32_t(i * 29 % vocabulary);
  return tokens;
}

void reading(bool int8, int64_t units, int64_t vocabulary, int64_t rows, int64_t steps) {
  Model model(units, vocabulary, int8);
  const std::vector<int32_t> tokens = some_tokens(rows * steps, vocabulary);
  const Reading together(model, rows, steps, tokens.data(), 1);
  for (int threads : {2, 4}) {
    const Reading same(model, rows, steps, tokens.data(), threads);
    CHECK(same.states == together.states && same.logits == together.logits);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const Reading alone(model, 1, steps, tokens.data() + r * steps, 2);
    CHECK(std::memcmp(alone.states.data(), together.states.data() + r * 2 * units, 2 * units * sizeof(float)) == 0);
    const int64_t logits = steps * vocabulary;
    CHECK(std::memcmp(alone.logits.data(), together.logits.data() + r * logits, logits * sizeof(float)) == 0);
  }
  std::vector<double> h(units), g(units), next(units);
  for (int64_t s = 0; s < std::min<int64_t>(steps, 5); ++s) {  // of row 0, before differences have grown, by three loops
    for (int64_t u = 0; u < units; ++u) {
      double sum = model.table.data()[tokens[s] * padded(units) + u];
      for (int64_t k = 0; k < units; ++k) sum += model.W.numbers[u * units + k] * h[k];
      next[u] = std::tanh(sum);
    }
    h = next;
    for (int64_t u = 0; u < units; ++u) {
      double sum = 0;
      for (int64_t k = 0; k < units; ++k)
        sum += model.R.numbers[u * units + k] * g[k] + double(model.W.numbers[u * units + k]) * h[k];
      next[u] = std::tanh(sum);
    }
    g = next;
    for (int64_t t = 0; t < vocabulary; ++t) {
      double sum = model.bias.data()[t];
      for (int64_t k = 0; k < units; ++k) sum += model.V.numbers[t * units + k] * g[k];
      // A sum of at most 70 products below 1/4; of 8 bits, each factor h is off by up to 1/254 of the largest.
      CHECK(std::fabs(sum - together.logits[s * vocabulary + t]) < (int8 ? 0.05 : 1e-5));
    }
  }
}

// Streams that want different numbers of tokens, with their own settings.
struct Writing {
  std::vector<float> states, logits;
  std::vector<int32_t> tokens;
  std::vector<unrolled_stream> streams;
  static constexpr int64_t room = 12;

  Writing(const Model &model, int64_t first, int64_t count, int threads)
      : states(count * model.state_size), logits(count * model.vocabulary), tokens(count * room), streams(count) {
    std::vector<unrolled_stream *> pointers;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t number = first + i;
      for (int64_t t = 0; t < model.vocabulary; ++t) logits[i * model.vocabulary + t] = value(number * 11 + t);
      unrolled_stream &s = streams[i];
      s = {};
      s.state = states.data() + i * model.state_size;
      s.logits = logits.data() + i * model.vocabulary;
      s.tokens = tokens.data() + i * room;
      s.before = 2;
      s.wanted = number * 5 % 11;
      s.repetition_penalty = number % 2 ? 1.3 : 1.0;
      s.repetition_window = 4;
      s.temperature = number % 3 ? 0.9 : 0.0;
      s.top_k = number % 4 ? 0 : 5;
      s.log_min_p = number % 5 ? -std::numeric_limits<double>::infinity() : -3.0;
      s.top_p = number % 3 == 1 ? 0.8 : 1.0;
      s.seed = uint64_t(number);
      pointers.push_back(&s);
    }
    CHECK(unrolled_decoder_write(model.decoder, pointers.data(), count, threads, message) == UNROLLED_OK);
  }
};

void writing(bool int8) {
  Model model(37, 23, int8);
  const int64_t count = 13;
  const Writing together(model, 0, count, 1);
  for (int threads : {2, 4}) {
    const Writing same(model, 0, count, threads);
    CHECK(same.tokens == together.tokens && same.states == together.states && same.logits == together.logits);
  }
  for (int64_t i = 0; i < count; ++i) {
    const Writing alone(model, i, 1, 2);
    CHECK(alone.streams[0].written == together.streams[i].wanted);
    CHECK(std::memcmp(alone.tokens.data(), together.tokens.data() + i * Writing::room, Writing::room * 4) == 0);
    CHECK(std::memcmp(alone.states.data(), together.states.data() + i * model.state_size, model.state_size * 4) == 0);
  }
}

void what_is_not_finite(bool int8) {
  Model model(20, 9, int8);
  std::vector<float> state(model.state_size), logits(model.vocabulary);
  state[3] = std::numeric_limits<float>::quiet_NaN();
  float *states[] = {state.data()};
  const int32_t token = 1;
  CHECK(unrolled_decoder_read(model.decoder, 1, 1, &token, states, logits.data(), 0, 2, message) == UNROLLED_OK);
  int32_t tokens[3] = {};
  unrolled_stream stream{};
  stream.state = state.data();
  stream.logits = logits.data();
  stream.tokens = tokens;
  stream.wanted = 3;
  stream.temperature = stream.repetition_penalty = stream.top_p = 1;
  unrolled_stream *streams[] = {&stream};
  CHECK(unrolled_decoder_write(model.decoder, streams, 1, 2, message) == UNROLLED_OK);
  CHECK(stream.written == 0 && stream.bad_logits == model.vocabulary);
  CHECK(unrolled_choose(logits.data(), model.vocabulary, &stream) == -1);
  stream.temperature = std::numeric_limits<double>::quiet_NaN();
  CHECK(unrolled_decoder_write(model.decoder, streams, 1, 2, message) == UNROLLED_INVALID);
  CHECK(unrolled_choose(logits.data(), model.vocabulary, &stream) == -1 && stream.bad_logits == 0);
}

void without_memory(bool int8) {
  Model model(70, 23, int8);
  const std::vector<int32_t> tokens = some_tokens(9 * 40, model.vocabulary);
  std::vector<float> states(9 * model.state_size), logits(9 * model.vocabulary);
  std::vector<float *> state;
  for (int64_t r = 0; r < 9; ++r) state.push_back(states.data() + r * model.state_size);
  std::vector<int32_t> written(9 * 5);
  std::vector<unrolled_stream> streams(9);
  std::vector<unrolled_stream *> pointers;
  for (int64_t r = 0; r < 9; ++r) {
    streams[r].state = state[r];
    streams[r].logits = logits.data() + r * model.vocabulary;
    streams[r].tokens = written.data() + r * 5;
    streams[r].wanted = 5;
    streams[r].temperature = streams[r].repetition_penalty = 1;
    streams[r].top_p = 0.9;
    pointers.push_back(&streams[r]);
  }
  for (int threads : {1, 4})
    for (int64_t rows : {1, 9}) {
      const int failed = starve([&] {
        return unrolled_decoder_read(model.decoder, rows, 40, tokens.data(), state.data(), logits.data(), 0, threads, message);
      });
      CHECK(failed > threads);  // each thread has memory of its own
      CHECK(starve([&] {
              return unrolled_decoder_write(model.decoder, pointers.data(), rows, threads, message);
            }) > threads);
    }
}

void refusals() {
  unrolled_decoder *decoder = nullptr;
  unrolled_decoder_description description{};
  CHECK(unrolled_decoder_create(nullptr, &decoder, message) == UNROLLED_INVALID);
  CHECK(unrolled_decoder_create(&description, nullptr, message) == UNROLLED_INVALID);
  CHECK(unrolled_decoder_create(&description, &decoder, message) == UNROLLED_INVALID);
  CHECK(std::strlen(message) > 0);
  CHECK(unrolled_decoder_vocabulary(nullptr) == -1 && unrolled_decoder_state_size(nullptr) == -1);
  CHECK(unrolled_decoder_read(nullptr, 1, 1, nullptr, nullptr, nullptr, 0, 1, nullptr) == UNROLLED_INVALID);
  CHECK(unrolled_decoder_write(nullptr, nullptr, 1, 1, nullptr) == UNROLLED_INVALID);
  CHECK(unrolled_choose(nullptr, 1, nullptr) == -1);
  CHECK(unrolled_int8_size(-1, 3) == -1);
  const int8_t numbers[] = {1, -128};
  const float scale = 1;
  float packed[64];
  CHECK(unrolled_int8_size(1, 2) <= int64_t(sizeof packed));
  CHECK(unrolled_int8_pack(nullptr, &scale, 1, 2, 2, packed, message) == UNROLLED_INVALID);
  CHECK(unrolled_int8_pack(numbers, &scale, 1, 2, 2, packed, message) == UNROLLED_INVALID);
  unrolled_decoder_destroy(nullptr);
}

}  // namespace

int main() {
  for (bool int8 : {false, true}) {
    for (int64_t rows : {1, 3, 9, 50}) reading(int8, 33, 40, rows, 5);
    reading(int8, 70, 5, 2, 33);
    reading(int8, 40, 20, 3, 70);
    reading(int8, 1, 1, 1, 1);
    writing(int8);
    what_is_not_finite(int8);
    without_memory(int8);
  }
  refusals();
  std::puts("decoding passes its tests");
}
