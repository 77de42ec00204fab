// The library through its header alone: a recurrent step over time, a weight's gradient, and refusals. Small sizes and
// several threads: this is what the sanitizers run (make sanitize).
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "check.h"

namespace {

// A factor of a product, as the precision rounds it: to nearest, ties to even.
double factor(float number, int precision) {
  uint32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  if (precision == UNROLLED_BF16) bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
  std::memcpy(&number, &bits, sizeof bits);
  return number;
}

std::vector<float> packed(const std::vector<float> &matrix, int64_t rows, int64_t columns, int precision, int threads) {
  std::vector<float> result(unrolled_packed_size(rows, columns, precision));
  const unrolled_matrix one{matrix.data(), rows, columns, columns, 1, result.data()};
  CHECK(unrolled_pack_all(&one, 1, precision, threads, message) == UNROLLED_OK);
  return result;
}

// h_t = tanh(W h_{t-1} + x_t) by the engine and by three loops; with `words` each x_t is a row of so many.
// Units in whole blocks are also written into memory that is no array.
void recurrence(int64_t batch, int64_t steps, int64_t units, int precision, int threads, int64_t words = 0) {
  std::vector<float> matrix(units * units);
  for (size_t i = 0; i < matrix.size(); ++i) matrix[i] = value(int(i)) / 4;
  const std::vector<float> panels = packed(matrix, units, units, precision, threads);
  Memory x(words ? words : batch * steps, units), h(batch * (steps + 1), units);
  std::vector<int64_t> index(batch * steps);
  for (int64_t r = 0; r < batch * steps; ++r) index[r] = words ? r * 5 % words : r;
  for (int64_t r = 0; r < x.rows; ++r)
    for (int64_t u = 0; u < units; ++u) x.at(r, u) = value(int(r * 7 + u));

  const unrolled_array arrays[] = {{words ? UNROLLED_INDEXED : UNROLLED_ROWS, 0, units, x.stride},
                                   {UNROLLED_ROWS, 0, units, h.stride},
                                   {UNROLLED_ROWS, 1, units, h.stride},
                                   {UNROLLED_OUTSIDE, 2, units, units}};
  const bool outside = units % UNROLLED_BLOCK == 0;
  const int32_t count = outside ? 4 : 3;  // of arrays; the register comes after them
  const int64_t distance = units + 3;     // floats between rows outside, where steps follow each other in a row
  std::vector<float> outputs(batch * steps * distance);
  const unrolled_product product{0, 1, count, 0};
  const unrolled_instruction code[] = {{UNROLLED_ADD, count, count, 0}, {UNROLLED_TANH, 2, count, count}, {UNROLLED_COPY, 3, 2, 2}};
  const unrolled_stage stage{units, 0, 1, 0, outside ? 3 : 2};
  const unrolled_plan_description description{count,  1,        1,    1,      outside ? 3 : 2, 1,     3, 0, precision,
                                              arrays, &product, code, &stage, &units,          &units};
  unrolled_plan *plan = nullptr;
  CHECK(starve([&] { return unrolled_plan_create(&description, &plan, message); }) > 0);

  std::vector<int64_t> active(steps, batch), offsets;
  for (int64_t s = 0; s < steps; ++s) offsets.push_back(s * batch);
  for (int64_t s = 0; s < steps; ++s) offsets.push_back((s + 1) * batch);
  for (int64_t s = 0; s < steps; ++s) offsets.push_back(s * distance);
  float *data[] = {x.data(), h.data(), h.data(), outputs.data()};
  const int64_t rows[] = {x.rows, h.rows, h.rows, int64_t(outputs.size())};
  const int64_t strides[] = {0, 0, 0, steps * distance};
  const float *matrices[] = {panels.data()};
  const unrolled_run_arguments run{steps, active.data(), offsets.data(), data, rows, matrices, threads, index.data(), batch * steps, strides};
  CHECK(starve([&] { return unrolled_plan_run(plan, &run, message); }) > threads);  // each thread has memory of its own
  unrolled_plan_destroy(plan);

  for (int64_t s = 0; s < steps; ++s)
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t u = 0; u < units; ++u) {
        double sum = x.at(index[s * batch + b], u);
        for (int64_t k = 0; k < units; ++k) sum += factor(matrix[u * units + k], precision) * factor(h.at(s * batch + b, k), precision);
        // 5e-6: a sum of at most 70 products below 1, each off by half a unit in the last place, and tanh's 2.5.
        CHECK(std::fabs(std::tanh(sum) - h.at((s + 1) * batch + b, u)) < 5e-6);
        if (outside) CHECK(outputs[(b * steps + s) * distance + u] == h.at((s + 1) * batch + b, u));
      }
}

// g_t = tanh(W (x_t g_{t-1})): a stage whose units are all that the next one reads. With `scratch` the product's vector has
// the same rows in every step, so nobody may write it before all have read it.
void two_stages(int64_t batch, int64_t steps, int64_t units, int threads, bool scratch, int precision) {
  std::vector<float> matrix(units * units);
  for (size_t i = 0; i < matrix.size(); ++i) matrix[i] = value(int(i)) / 2;
  const std::vector<float> panels = packed(matrix, units, units, precision, threads);
  Memory x(batch * steps, units), between(scratch ? batch : batch * steps, units), g(batch * (steps + 1), units);
  for (int64_t r = 0; r < batch * steps; ++r)
    for (int64_t u = 0; u < units; ++u) x.at(r, u) = value(int(r * 7 + u));
  for (int64_t r = 0; r < batch; ++r)
    for (int64_t u = 0; u < units; ++u) g.at(r, u) = value(int(r * 3 + u));

  const unrolled_array arrays[] = {{UNROLLED_ROWS, 0, units, x.stride},
                                   {UNROLLED_ROWS, scratch ? -1 : 0, units, between.stride},
                                   {UNROLLED_ROWS, 0, units, g.stride},
                                   {UNROLLED_ROWS, 1, units, g.stride}};
  const unrolled_product product{0, 1, 4, 0};
  const unrolled_instruction code[] = {{UNROLLED_MUL, 1, 0, 2}, {UNROLLED_TANH, 3, 4, 4}};
  const unrolled_stage stages[] = {{units, 0, 0, 0, 1}, {units, 0, 1, 1, 1}};
  const unrolled_plan_description description{4,      1,        1,    1,      2,      2,     2, 0, precision,
                                              arrays, &product, code, stages, &units, &units};
  unrolled_plan *plan = nullptr;
  CHECK(unrolled_plan_create(&description, &plan, message) == UNROLLED_OK);
  std::vector<int64_t> active(steps, batch), offsets;
  for (int64_t later : {0, 1})
    for (int64_t s = 0; s < steps; ++s) offsets.push_back((s + later) * batch);
  float *data[] = {x.data(), between.data(), g.data(), g.data()};
  const int64_t rows[] = {x.rows, between.rows, g.rows, g.rows};
  const float *matrices[] = {panels.data()};
  const unrolled_run_arguments run{steps, active.data(), offsets.data(), data, rows, matrices, threads, nullptr, 0, nullptr};
  CHECK(unrolled_plan_run(plan, &run, message) == UNROLLED_OK);
  unrolled_plan_destroy(plan);
  for (int64_t s = 0; s < steps; ++s)
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t u = 0; u < units; ++u) {
        double sum = 0;
        for (int64_t k = 0; k < units; ++k)
          sum += factor(matrix[u * units + k], precision) * factor(x.at(s * batch + b, k) * g.at(s * batch + b, k), precision);
        // 1e-5: a sum of 130 products below 1 / 8, each off by some units in the last place, and tanh's 2.5.
        CHECK(std::fabs(std::tanh(sum) - g.at((s + 1) * batch + b, u)) < 1e-5);
      }
}

void outer_product(int64_t m, int64_t n, int64_t k, int precision, int threads, bool accumulate) {
  Memory a(k + 3, m), b(k, n);  // more rows than take part: a's last three
  std::vector<float> result(m * n, 1.0f);
  for (int64_t r = 0; r < k; ++r) {
    for (int64_t i = 0; i < m; ++i) a.at(r, i) = value(int(r * m + i));
    for (int64_t j = 0; j < n; ++j) b.at(r, j) = value(int(3 * (r * n + j)));
  }
  const float *left[] = {a.data()};
  float *to[] = {result.data()};
  CHECK(unrolled_outer(1, left, &a.rows, b.data(), b.rows, m, n, k, to, &n, accumulate, precision, threads, message) == UNROLLED_OK);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = accumulate;
      for (int64_t r = 0; r < k; ++r) sum += factor(a.at(r, i), precision) * factor(b.at(r, j), precision);
      CHECK(std::fabs(sum - result[i * n + j]) < 1e-6 * double(k + 10));  // k roundings of sums below k / 4
    }
}

// From a matrix, its rows in reverse, into an array, and back, as a list of two calls.
void copied_rows(int64_t rows, int64_t width, int threads) {
  std::vector<float> matrix(rows * width), back(rows * width);
  std::vector<int64_t> reversed(rows);
  for (size_t i = 0; i < matrix.size(); ++i) matrix[i] = value(int(i));
  for (int64_t r = 0; r < rows; ++r) reversed[r] = rows - 1 - r;
  Memory array(rows, width);
  const unrolled_rows engine{array.data(), nullptr, 16, array.rows * 16};
  const unrolled_rows from{matrix.data(), reversed.data(), width, 16}, to{back.data(), reversed.data(), width, 16};
  const unrolled_rows places[] = {engine, from, to};
  const int64_t where[] = {reinterpret_cast<intptr_t>(places), rows};
  int64_t words[] = {0, 0, 0, width, 1, threads, 0, 0, 0, width, 0, threads};  // there, and home
  const unrolled_patch patches[] = {{0, 0, 0}, {1, 0, sizeof from}, {6, 0, 2 * sizeof from}, {7, 0, 0}, {2, 1, 0}, {8, 1, 0}};
  const unrolled_call calls[] = {{UNROLLED_CALL_COPY, words}, {UNROLLED_CALL_COPY, words + 6}};
  const unrolled_list list{calls, 2, words, 12, patches, 6, 2};
  CHECK(unrolled_play(&list, 2, where, message) == UNROLLED_OK);
  CHECK(back != matrix || rows * width == 0);
  CHECK(unrolled_play(&list, 0, where, message) == UNROLLED_OK);
  CHECK(back == matrix);
  CHECK(array.at(0, width - 1) == matrix[rows * width - 1]);
  if (width % 16) CHECK(array.at(rows / 2, width) == 0.0f);
}

// Rows of a matrix added to one of fewer rows.
void added_rows(int64_t rows, int64_t words, int64_t width, int threads) {
  Memory from(rows, width), to(words, width);
  std::vector<int64_t> index(rows);
  std::vector<double> expected(words * width, 0.5);
  for (int64_t w = 0; w < words; ++w)
    for (int64_t u = 0; u < width; ++u) to.at(w, u) = 0.5f;
  for (int64_t r = 0; r < rows; ++r) {
    index[r] = r * 7 % words;
    for (int64_t u = 0; u < width; ++u) expected[r * 7 % words * width + u] += from.at(r, u) = value(int(r * width + u));
  }
  const unrolled_rows sums{to.data(), index.data(), 16, words * 16}, given{from.data(), nullptr, 16, rows * 16};
  CHECK(unrolled_add_rows(&sums, &given, rows, width, threads, message) == UNROLLED_OK);
  for (int64_t w = 0; w < words; ++w)
    for (int64_t u = 0; u < width; ++u) CHECK(std::fabs(to.at(w, u) - expected[w * width + u]) < 1e-6 * double(rows));
}

void losses(int64_t rows, int64_t classes, int precision, int threads) {
  std::vector<float> logits(rows * classes), loss(rows);
  std::vector<int64_t> target(rows);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = float(factor(4 * value(int(i)), precision));
  for (int64_t r = 0; r < rows; ++r) target[r] = r * 3 % classes;
  std::vector<float> wide = logits;
  std::vector<uint16_t> half(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    uint32_t bits;
    std::memcpy(&bits, &logits[i], sizeof bits);
    half[i] = uint16_t(bits >> 16);
  }
  void *given = precision == UNROLLED_BF16 ? static_cast<void *>(half.data()) : wide.data();
  CHECK(unrolled_cross_entropy(given, precision, target.data(), rows, classes, 0.5f, loss.data(), threads, message) ==
        UNROLLED_OK);
  for (int64_t r = 0; r < rows; ++r) {
    double sum = 0;
    for (int64_t c = 0; c < classes; ++c) sum += std::exp(double(logits[r * classes + c]));
    CHECK(std::fabs(loss[r] - (std::log(sum) - logits[r * classes + target[r]])) < 1e-5);
    for (int64_t c = 0; c < classes; ++c) {
      const uint32_t bits = uint32_t(half[r * classes + c]) << 16;
      float got = wide[r * classes + c];
      if (precision == UNROLLED_BF16) std::memcpy(&got, &bits, sizeof got);
      const double expected = 0.5 * (std::exp(double(logits[r * classes + c])) / sum - (c == target[r]));
      CHECK(std::fabs(got - expected) < (precision == UNROLLED_BF16 ? 2e-3 : 1e-6));
    }
  }
}

void dropped(int64_t count, int threads) {
  std::vector<float> given(count, 3.0f), once(count), again(count);
  CHECK(unrolled_dropout(given.data(), once.data(), count, 11, 64, threads, message) == UNROLLED_OK);
  CHECK(unrolled_dropout(given.data(), again.data(), count, 11, 64, 1, message) == UNROLLED_OK);
  CHECK(once == again);
  for (float number : once) CHECK(number == 0.0f || number == 4.0f);
}

void refusals() {
  unrolled_plan *plan = nullptr;
  unrolled_plan_description description{};
  CHECK(unrolled_plan_create(nullptr, &plan, message) == UNROLLED_INVALID);
  CHECK(unrolled_plan_create(&description, nullptr, message) == UNROLLED_INVALID);
  description.arrays = 1;  // and no list of them
  CHECK(unrolled_plan_create(&description, &plan, message) == UNROLLED_INVALID);
  CHECK(std::strlen(message) > 0);
  CHECK(unrolled_plan_run(nullptr, nullptr, nullptr) == UNROLLED_INVALID);
  CHECK(unrolled_packed_size(-1, 3, UNROLLED_FP32) == -1);
  CHECK(unrolled_packed_size(3, 3, 2) == -1);
  CHECK(unrolled_pack_all(nullptr, 1, UNROLLED_FP32, 1, message) == UNROLLED_INVALID);
  for (int precision : {-1, 2, unrolled_bf16() ? 3 : int(UNROLLED_BF16)}) {
    unrolled_plan_description empty{};
    empty.precision = precision;
    CHECK(unrolled_plan_create(&empty, &plan, message) == UNROLLED_INVALID);
    CHECK(unrolled_pack_all(nullptr, 0, precision, 1, message) == UNROLLED_INVALID);
    CHECK(unrolled_outer(0, nullptr, nullptr, nullptr, 0, 0, 0, 0, nullptr, nullptr, 1, precision, 1, message) ==
          UNROLLED_INVALID);
  }
  CHECK(unrolled_copy_rows(nullptr, nullptr, 1, 1, 0, 1, message) == UNROLLED_INVALID);
  CHECK(unrolled_add_rows(nullptr, nullptr, 1, 1, 1, message) == UNROLLED_INVALID);
  const int64_t words[13] = {};
  const unrolled_call unknown{5, words}, empty{UNROLLED_CALL_COPY, nullptr}, wrong{UNROLLED_CALL_RUN, words};
  for (const unrolled_call *call : {&unknown, &empty, &wrong}) {
    const unrolled_list list{call, 1, nullptr, 0, nullptr, 0, 0};
    CHECK(unrolled_play(&list, 0, nullptr, message) == UNROLLED_INVALID);
  }
  const unrolled_list nothing{};
  CHECK(unrolled_play(&nothing, 0, nullptr, message) == UNROLLED_OK);
  CHECK(unrolled_play(&nothing, 1, nullptr, message) == UNROLLED_INVALID);
  CHECK(unrolled_play(nullptr, 0, nullptr, message) == UNROLLED_INVALID);
  int64_t word[1] = {7};
  for (const unrolled_patch patch : {unrolled_patch{1, 0, 0}, unrolled_patch{-1, 0, 0}, unrolled_patch{0, 1, 0}}) {
    const unrolled_list list{nullptr, 0, word, 1, &patch, 1, 1};
    CHECK(unrolled_play(&list, 0, words, message) == UNROLLED_INVALID);
    CHECK(word[0] == 7);
  }
  CHECK(unrolled_cross_entropy(nullptr, UNROLLED_FP32, nullptr, 1, 1, 1.0f, nullptr, 1, message) == UNROLLED_INVALID);
  CHECK(unrolled_dropout(nullptr, nullptr, 1, 0, 256, 1, message) == UNROLLED_INVALID);
  CHECK(unrolled_pack(nullptr, 3, 3, 3, 1, nullptr, 1, message) == UNROLLED_INVALID);
}

}  // namespace

int main() {
  CHECK(unrolled_abi() == UNROLLED_ABI);
  for (int threads : {1, 2, 4}) {
    for (int precision : {UNROLLED_FP32, unrolled_bf16() ? UNROLLED_BF16 : UNROLLED_FP32}) {
      for (int64_t batch : {1, 5, 30, 61}) recurrence(batch, 4, 33, precision, threads);
      recurrence(3, 2, 70, precision, threads);
      for (int64_t batch : {1, 40}) recurrence(batch, 3, 33, precision, threads, 9);
      losses(7, 33, precision, threads);
      losses(150, 500, precision, threads);
      outer_product(33, 17, 51, precision, threads, true);
      outer_product(33, 17, 0, precision, threads, false);
      outer_product(7, 130, 801, precision, threads, true);
      outer_product(7, 130, 1100, precision, threads, false);
      outer_product(18, 600, 35, precision, threads, true);
    }
    for (bool scratch : {false, true})
      for (int precision : {UNROLLED_FP32, unrolled_bf16() ? UNROLLED_BF16 : UNROLLED_FP32}) {
        two_stages(5, 6, 33, threads, scratch, precision);
        two_stages(40, 4, 130, threads, scratch, precision);
      }
    copied_rows(5, 33, threads);
    copied_rows(900, 80, threads);
    added_rows(50, 9, 33, threads);
    added_rows(900, 65, 80, threads);
    dropped(13, threads);
    dropped(70001, threads);
  }
  refusals();
  std::puts("the native library passes its tests");
}
