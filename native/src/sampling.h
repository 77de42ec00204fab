// Logits to a token, by the rules of src/unrolled/generation/choice.py to the last bit.
#pragma once

#include <cstdint>
#include <vector>

#include "unrolled.h"

namespace unrolled {

// Memory that choosing uses again from token to token.
struct SamplingMemory {
  std::vector<double> logits, weights;
  std::vector<int32_t> ids, order;
  std::vector<double> best;
};

// The settings of `stream` are those that generation/sampling.py allows.
bool in_range(const unrolled_stream &stream);

// The next token of `stream`, whose last tokens are `recent`; -1 if `stream.bad_logits` logits are not finite.
int32_t choose(const float *logits, int64_t vocabulary, const int32_t *recent, int64_t recent_count,
               unrolled_stream &stream, SamplingMemory &memory);

}  // namespace unrolled
