// A list of calls, so that who makes them pays once for coming here.
#include <cstddef>
#include <type_traits>
#include <utility>

#include "status.h"

namespace unrolled {
namespace {

template <class T>
T argument(int64_t word) {
  if constexpr (std::is_pointer_v<T>)
    return reinterpret_cast<T>(static_cast<intptr_t>(word));
  else
    return static_cast<T>(word);
}

// `function(words..., message)`, whose parameters but the message are T.
template <class... T>
struct Function {
  int (*function)(T..., char *);

  int operator()(const int64_t *words, char *message) const {
    return with(words, message, std::index_sequence_for<T...>());
  }
  template <size_t... At>
  int with(const int64_t *words, char *message, std::index_sequence<At...>) const {
    return function(argument<T>(words[At])..., message);
  }
};

int make(const unrolled_call &call, char *message) {
  const int64_t *words = call.arguments;
  using Rows = const unrolled_rows *;
  switch (call.function) {
    case UNROLLED_CALL_RUN:
      return Function<const unrolled_plan *, const unrolled_run_arguments *>{unrolled_plan_run}(words, message);
    case UNROLLED_CALL_PACK:
      return Function<const unrolled_matrix *, int64_t, int32_t, int32_t>{unrolled_pack_all}(words, message);
    case UNROLLED_CALL_COPY:
      return Function<Rows, Rows, int64_t, int64_t, int32_t, int32_t>{unrolled_copy_rows}(words, message);
    case UNROLLED_CALL_ADD:
      return Function<Rows, Rows, int64_t, int64_t, int32_t>{unrolled_add_rows}(words, message);
    case UNROLLED_CALL_OUTER:
      return Function<int32_t, const float *const *, const int64_t *, const float *, int64_t, int64_t, int64_t, int64_t,
                      float *const *, const int64_t *, int32_t, int32_t, int32_t>{unrolled_outer}(words, message);
  }
  return invalid(message, "there is no call %lld", (long long)call.function);
}

}  // namespace
}  // namespace unrolled

int unrolled_play(const unrolled_call *calls, int64_t count, char *message) {
  using namespace unrolled;
  if (count < 0 || (count > 0 && calls == nullptr)) return invalid(message, "a list of %lld calls", (long long)count);
  for (int64_t i = 0; i < count; ++i) {
    if (calls[i].arguments == nullptr) return invalid(message, "call %lld has no arguments", (long long)i);
    if (int status = make(calls[i], message)) return status;
  }
  return UNROLLED_OK;
}
